/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* What a packet says about itself: addresses, protocol and ports, IPv4 and IPv6 alike. */
#pragma once
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "endpoint.h"

#define FRAGMENT_OFFSET 0x1fff
#define EXTENSION_HEADERS 6

struct packet {
	struct endpoint from, to;
	__u32 transport; /* where its header begins, from the IP header; 0 where there are no ports */
	__u8 protocol;
	bool v4, has_ports, is_echo, is_reply;
};

static __always_inline int load(struct __sk_buff *skb, __u32 offset, void *to, __u32 length)
{
	return bpf_skb_load_bytes_relative(skb, offset, to, length, BPF_HDR_START_NET);
}

/* Neighbor and multicast discovery (ICMPv6 130 to 137, 143) is never matched, as ARP is not. */
static __always_inline bool parse_icmp(struct __sk_buff *skb, __u32 offset, struct packet *packet)
{
	__u8 echo = packet->v4 ? 8 : 128, reply = packet->v4 ? 0 : 129, icmp[8];

	if (load(skb, offset, icmp, sizeof(icmp)))
		return true;
	packet->is_echo = icmp[0] == echo;
	packet->is_reply = icmp[0] == reply;
	if (packet->is_echo || packet->is_reply)
		packet->from.port = packet->to.port = icmp[4] << 8 | icmp[5];
	return packet->v4 || ((icmp[0] < 130 || icmp[0] > 137) && icmp[0] != 143);
}

static __always_inline bool parse_transport(struct __sk_buff *skb, __u32 offset, struct packet *packet)
{
	__be16 ports[2];

	switch (packet->protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
	case IPPROTO_DCCP:
	case IPPROTO_UDPLITE:
		if (load(skb, offset, ports, sizeof(ports)))
			return true;
		packet->from.port = bpf_ntohs(ports[0]);
		packet->to.port = bpf_ntohs(ports[1]);
		packet->has_ports = true;
		packet->transport = offset;
		return true;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return parse_icmp(skb, offset, packet);
	}
	return true;
}

static __always_inline bool parse_v4(struct __sk_buff *skb, __u32 offset, struct packet *packet)
{
	struct iphdr ip;

	if (load(skb, offset, &ip, sizeof(ip)))
		return false;
	packet->v4 = true;
	packet->protocol = ip.protocol;
	map_v4(&packet->from.address, ip.saddr);
	map_v4(&packet->to.address, ip.daddr);
	if (ip.frag_off & bpf_htons(FRAGMENT_OFFSET))
		return true;
	return parse_transport(skb, offset + (ip.ihl << 2), packet);
}

static __always_inline __u32 header_length(__u8 kind, __u8 length)
{
	if (kind == IPPROTO_FRAGMENT)
		return 8;
	return kind == IPPROTO_AH ? (length + 2) << 2 : (length + 1) << 3; /* RFC 4302, RFC 8200 */
}

static __always_inline bool parse_v6(struct __sk_buff *skb, __u32 offset, struct packet *packet)
{
	struct ipv6hdr ip;
	__u8 next, head[4];
	int i;

	if (load(skb, offset, &ip, sizeof(ip)))
		return false;
	packet->from.address = ip.saddr;
	packet->to.address = ip.daddr;
	next = ip.nexthdr;
	offset += sizeof(ip);
#pragma unroll
	for (i = 0; i < EXTENSION_HEADERS; i++) {
		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS &&
		    next != IPPROTO_FRAGMENT && next != IPPROTO_AH)
			break;
		if (load(skb, offset, head, sizeof(head)))
			break;
		if (next == IPPROTO_FRAGMENT && ((head[2] << 8 | head[3]) & 0xfff8)) {
			packet->protocol = head[0];
			return true;
		}
		offset += header_length(next, head[1]);
		next = head[0];
	}
	packet->protocol = next;
	return parse_transport(skb, offset, packet);
}

/* False for what is not IP. Works with and without a link-layer header, and below one VLAN tag. */
static __always_inline bool parse(struct __sk_buff *skb, struct packet *packet)
{
	__u32 offset = 0;
	__be16 inner;
	__u8 first;

	if (skb->protocol == bpf_htons(ETH_P_8021Q) || skb->protocol == bpf_htons(ETH_P_8021AD)) {
		if (load(skb, 2, &inner, sizeof(inner)))
			return false;
		if (inner == bpf_htons(ETH_P_IP) || inner == bpf_htons(ETH_P_IPV6))
			offset = 4;
	} else if (skb->protocol != bpf_htons(ETH_P_IP) && skb->protocol != bpf_htons(ETH_P_IPV6)) {
		return false;
	}
	if (load(skb, offset, &first, sizeof(first)))
		return false;
	if (first >> 4 == 4)
		return parse_v4(skb, offset, packet);
	return first >> 4 == 6 && parse_v6(skb, offset, packet);
}

/* The same for both directions of a conversation. */
static __always_inline __u64 flow_of(const struct packet *packet)
{
	return mix(hash_of(&packet->from) + hash_of(&packet->to)) ^ packet->protocol;
}

/* A client's port is higher than its server's, nearly always; what is neither is a reply. */
static __always_inline bool initiates(const struct packet *packet)
{
	const __u32 *from = packet->from.address.s6_addr32, *to = packet->to.address.s6_addr32;
	int i;

	if (packet->is_echo || packet->is_reply)
		return packet->is_echo;
	if (packet->from.port != packet->to.port)
		return packet->from.port > packet->to.port;
#pragma unroll
	for (i = 0; i < 4; i++) {
		if (from[i] != to[i])
			return bpf_ntohl(from[i]) > bpf_ntohl(to[i]);
	}
	return false;
}
