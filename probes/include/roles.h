/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* What a process is to a fault; chaosd/kernel/tasks.py writes these. */
#pragma once

enum {
	TARGET = 1,
	EXEMPT, /* chaosd, its helpers, the operator's session; what they start is exempt as well */
	SPARED, /* the host's first process: what it starts is not */
};
