/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Turns a packet into its own answer: a question into a DNS response, the first packet of a connection
 * into its refusal. Everything keeps its length. */
#pragma once
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <stddef.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "kind.h"
#include "packet.h"

#define NOWHERE (~0U)

/* Where the IP header begins: the kernel does not tell, yet it can be read by two ways. */
static __always_inline __u32 network(struct __sk_buff *skb)
{
	__u64 ip, here;

	if (load(skb, 0, &ip, sizeof(ip)))
		return NOWHERE;
	if (!bpf_skb_load_bytes(skb, ETH_HLEN, &here, sizeof(here)) && here == ip)
		return ETH_HLEN;
	if (!bpf_skb_load_bytes(skb, 0, &here, sizeof(here)) && here == ip)
		return 0;
	return NOWHERE;
}

/* Two fields of one size that follow each other; checksums do not notice. */
static __always_inline bool swap(struct __sk_buff *skb, __u32 at, __u8 *both, __u32 size)
{
	__u8 swapped[32];

	if (bpf_skb_load_bytes(skb, at, both, 2 * size))
		return false;
	__builtin_memcpy(swapped, both + size, size);
	__builtin_memcpy(swapped + size, both, size);
	return !bpf_skb_store_bytes(skb, at, swapped, 2 * size, 0);
}

static __always_inline bool swap_ends(struct __sk_buff *skb, const struct packet *packet, __u32 ip)
{
	__u8 both[32];

	if (ip && !swap(skb, 0, both, ETH_ALEN))
		return false;
	if (!swap(skb, ip + packet->transport, both, 2))
		return false;
	if (packet->v4)
		return swap(skb, ip + offsetof(struct iphdr, saddr), both, 4);
	return swap(skb, ip + offsetof(struct ipv6hdr, saddr), both, 16);
}

/* An even number of bytes, at most four, and the checksum of TCP or UDP with it. */
static __always_inline bool put(struct __sk_buff *skb, __u32 at, __u32 sum, const void *fresh, __u32 size,
				__u64 flags)
{
	__be32 old = 0, new = 0;

	if (bpf_skb_load_bytes(skb, at, &old, size))
		return false;
	__builtin_memcpy(&new, fresh, size);
	return !bpf_l4_csum_replace(skb, sum, old, new, flags | size) &&
	       !bpf_skb_store_bytes(skb, at, fresh, size, 0);
}

/* RFC 1035, 4.1.1: a response to the same question, with recursion available, and a code. */
static __always_inline bool respond(struct __sk_buff *skb, __u32 udp, __u8 code)
{
	__u32 at = udp + UDP_HEADER + DNS_FLAGS;
	__u8 flags[2];

	if (bpf_skb_load_bytes(skb, at, flags, sizeof(flags)))
		return false;
	flags[0] = 0x80 | (flags[0] & 0x79);
	flags[1] = 0x80 | (flags[1] & 0x10) | code;
	return put(skb, at, udp + 6, flags, sizeof(flags), BPF_F_MARK_MANGLED_0);
}

/* RFC 9293, 3.5.2: the reset that answers a SYN acknowledges it. */
static __always_inline bool refuse(struct __sk_buff *skb, __u32 tcp)
{
	__be32 sequence, none = 0;
	__u8 offset_flags[2];

	if (bpf_skb_load_bytes(skb, tcp + 4, &sequence, sizeof(sequence)) ||
	    bpf_skb_load_bytes(skb, tcp + TCP_FLAGS - 1, offset_flags, sizeof(offset_flags)))
		return false;
	sequence = bpf_htonl(bpf_ntohl(sequence) + 1);
	offset_flags[1] = TCP_RST | TCP_ACK;
	return put(skb, tcp + 4, tcp + 16, &none, sizeof(none), 0) &&
	       put(skb, tcp + 8, tcp + 16, &sequence, sizeof(sequence), 0) &&
	       put(skb, tcp + TCP_FLAGS - 1, tcp + 16, offset_flags, sizeof(offset_flags), 0);
}

/* Whether it is its own answer now; if not, it is in no state to go on. */
static __always_inline bool answer(struct __sk_buff *skb, const struct packet *packet, __u8 code)
{
	__u32 ip = network(skb);

	if (ip == NOWHERE || !swap_ends(skb, packet, ip))
		return false;
	if (packet->protocol == IPPROTO_TCP)
		return refuse(skb, ip + packet->transport);
	return respond(skb, ip + packet->transport, code);
}
