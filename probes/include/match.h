/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The filters a user can name: who is at the far end, by which port and protocol. */
#pragma once
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include "endpoint.h"

enum { FAR_PORT, NEAR_PORT };

/* A filter that is absent lets everything through. */
struct filters {
	__u8 protocol_v4, protocol_v6; /* 0: any */
	__u8 has_far_ports, has_near_ports;
	__u8 has_cidrs, has_exclude;
	__u8 pad[2];
};

struct port_key {
	__u16 side, port;
};

struct cidr_key {
	__u32 length; /* of all that follows: 32 and the prefix, which for IPv4 begins at 96 */
	__u32 v4; /* so that ::/0 is not everything */
	struct in6_addr address; /* IPv4 as ::ffff:a.b.c.d */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 2 * 65536);
	__type(key, struct port_key);
	__type(value, __u8);
} ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct cidr_key);
	__type(value, __u8);
} cidrs SEC(".maps"), exclude SEC(".maps");

static __always_inline bool port_in(__u16 side, __u16 port)
{
	struct port_key key = {side, port};

	return bpf_map_lookup_elem(&ports, &key);
}

static __always_inline bool address_matches(const volatile struct filters *want, const struct in6_addr *far)
{
	struct cidr_key key = {160, is_v4(far), *far};

	if (want->has_cidrs && !bpf_map_lookup_elem(&cidrs, &key))
		return false;
	return !want->has_exclude || !bpf_map_lookup_elem(&exclude, &key);
}

static __always_inline bool protocol_matches(const volatile struct filters *want, __u8 protocol, bool v4)
{
	__u8 wanted = v4 ? want->protocol_v4 : want->protocol_v6;

	return !wanted || wanted == protocol;
}
