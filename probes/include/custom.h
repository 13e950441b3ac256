/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* What chaosd and a user's probe tell each other: custom.bpf.c holds the maps, prelude.h uses them. */
#pragma once
#include "outcome.h"

struct custom {
	struct rule rule;
	__u32 only_tasks; /* the cgroup holds others too */
	__u32 pad;
};

struct custom_hit {
	__u64 at; /* CLOCK_BOOTTIME, nanoseconds */
	__u32 pid; /* of the process */
	__u32 pad;
	char comm[16];
};
