/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* One end of a conversation: address and port, IPv4 and IPv6 alike. */
#pragma once
#include <linux/bpf.h>
#include <linux/in6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "mix.h"

struct endpoint {
	struct in6_addr address; /* IPv4 as ::ffff:a.b.c.d */
	__u16 port; /* host order; the echo id for ping */
};

static __always_inline void map_v4(struct in6_addr *address, __be32 v4)
{
	address->s6_addr32[0] = 0;
	address->s6_addr32[1] = 0;
	address->s6_addr32[2] = bpf_htonl(0xffff);
	address->s6_addr32[3] = v4;
}

static __always_inline bool is_v4(const struct in6_addr *address)
{
	const __u32 *word = address->s6_addr32;

	return !word[0] && !word[1] && word[2] == bpf_htonl(0xffff);
}

static __always_inline __u64 hash_of(const struct endpoint *end)
{
	const __u32 *word = end->address.s6_addr32;

	return mix((__u64)word[0] << 32 | word[1]) + mix(((__u64)word[2] << 32 | word[3]) ^ mix(end->port));
}
