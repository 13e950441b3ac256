/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* What every program that fails system calls is told; one record for all mechanisms. */
#pragma once
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "endpoint.h"
#include "hit.h"
#include "lease.h"
#include "match.h"
#include "number.h"
#include "tasks.h"

struct injection {
	struct rule rule;
	struct filters filters;
	__s32 error; /* negative */
	__u32 only_tasks; /* the cgroup holds others too */
	__u32 has_sockets, has_path;
};

const volatile struct injection injection SEC(".rodata.config");

static __always_inline bool socket_matches(const struct endpoint *end, __u8 protocol)
{
	const volatile struct filters *want = &injection.filters;

	if (!protocol_matches(want, protocol, is_v4(&end->address)))
		return false;
	if (want->has_far_ports && !port_in(FAR_PORT, end->port))
		return false;
	return address_matches(want, &end->address);
}
