/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Whose packet it is: by its socket when it leaves, by a lookup of the socket when it comes in. */
#pragma once
#include <linux/bpf.h>
#include <linux/in.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "packet.h"
#include "tagged.h"

static __always_inline bool is_tagged(struct bpf_sock *sk)
{
	struct bpf_sock *full = bpf_sk_fullsock(sk);

	if (full)
		return bpf_sk_storage_get(&tagged, full, 0, 0);
	full = bpf_get_listener_sock(sk); /* a handshake is not a whole socket yet */
	return full && bpf_sk_storage_get(&tagged, full, 0, 0);
}

static __always_inline struct bpf_sock *look(struct __sk_buff *skb, const struct packet *packet,
					     struct bpf_sock_tuple *tuple, __u32 size)
{
	if (packet->protocol == IPPROTO_TCP)
		return bpf_skc_lookup_tcp(skb, tuple, size, BPF_F_CURRENT_NETNS, 0);
	return bpf_sk_lookup_udp(skb, tuple, size, BPF_F_CURRENT_NETNS, 0);
}

static __always_inline bool lookup(struct __sk_buff *skb, const struct packet *packet,
				   const struct endpoint *near, const struct endpoint *far)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sk;
	bool found;

	if (packet->protocol != IPPROTO_TCP && packet->protocol != IPPROTO_UDP)
		return false;
	if (packet->v4) {
		tuple.ipv4.saddr = far->address.s6_addr32[3];
		tuple.ipv4.daddr = near->address.s6_addr32[3];
		tuple.ipv4.sport = bpf_htons(far->port);
		tuple.ipv4.dport = bpf_htons(near->port);
		sk = look(skb, packet, &tuple, sizeof(tuple.ipv4));
	} else {
		__builtin_memcpy(tuple.ipv6.saddr, &far->address, 16);
		__builtin_memcpy(tuple.ipv6.daddr, &near->address, 16);
		tuple.ipv6.sport = bpf_htons(far->port);
		tuple.ipv6.dport = bpf_htons(near->port);
		sk = look(skb, packet, &tuple, sizeof(tuple.ipv6));
	}
	if (!sk)
		return false;
	found = is_tagged(sk);
	bpf_sk_release(sk);
	return found;
}
