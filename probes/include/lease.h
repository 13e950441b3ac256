/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The dead man's switch: a deadline in CLOCK_BOOTTIME nanoseconds that the engine keeps moving. */
#pragma once
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include "outcome.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct lease);
} lease SEC(".maps");

/* NULL once it has run out. */
static __always_inline const volatile struct lease *lease_held(void)
{
	__u32 zero = 0;
	const volatile struct lease *held = bpf_map_lookup_elem(&lease, &zero);

	return held && bpf_ktime_get_boot_ns() < held->deadline ? held : NULL;
}
