/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The dead man's switch: a deadline in CLOCK_BOOTTIME nanoseconds that the engine keeps moving. */
#pragma once
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
} lease SEC(".maps");

static __always_inline bool lease_holds(void)
{
	__u32 zero = 0;
	__u64 *deadline = bpf_map_lookup_elem(&lease, &zero);

	return deadline && bpf_ktime_get_boot_ns() < *(volatile __u64 *)deadline;
}
