/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The sockets of the target; a connection inherits the tag of the listener it was accepted from. */
#pragma once
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, __u32);
} tagged SEC(".maps");
