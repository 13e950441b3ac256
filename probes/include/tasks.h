/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Whose processes are meant and whose are never, by tgid; kept through fork and exit by tag.bpf.c. */
#pragma once
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include "roles.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, __u32);
} tasks SEC(".maps");

/* With only_tasks those in the map, else everybody: the program is attached to the target's cgroup. */
static __always_inline bool is_target(bool only_tasks)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32, *role = bpf_map_lookup_elem(&tasks, &tgid);

	return role ? *role == TARGET : !only_tasks;
}
