// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* The maps of a user's probe, which is compiled on the host (prelude.h); there is no program in it. */
#include "custom.h"
#include "hit.h"
#include "lease.h"
#include "number.h"
#include "tasks.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct custom);
} custom SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_CGROUP_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} within SEC(".maps");

char _license[] SEC("license") = "Dual MIT/GPL";
