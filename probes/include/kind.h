/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* What kind of packet: any, one that begins a connection, or a question to a name server. */
#pragma once
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "packet.h"

#define TCP_FLAGS 13 /* where they are: RFC 9293 */
#define TCP_FIN 1
#define TCP_SYN 2
#define TCP_RST 4
#define TCP_ACK 16
#define UDP_HEADER 8
#define DNS_HEADER 12 /* RFC 1035, 4.1.1: id, flags, four counts */
#define DNS_FLAGS 2
#define NAME 255 /* RFC 1035, 2.3.4: the longest name */

enum { ANY_KIND, CONNECTIONS, QUERIES };

/* A name from its last label to its first, as patterns have it: what ends alike begins alike here. */
struct backwards {
	__u32 length; /* of what counts, in bits */
	__u8 name[NAME + 1]; /* bytes of the wire format in reverse, lower case, and 0xff behind the first */
};

struct question {
	struct backwards key;
	__u8 name[NAME + 1];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct question);
} asked SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1024);
	__type(key, struct backwards);
	__type(value, __u8);
} names SEC(".maps");

static __always_inline bool begins_connection(struct __sk_buff *skb, const struct packet *packet)
{
	__u8 flags;

	if (packet->protocol != IPPROTO_TCP || !packet->transport ||
	    load(skb, packet->transport + TCP_FLAGS, &flags, sizeof(flags)))
		return false;
	return (flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;
}

/* Global functions are verified once, by themselves: within their callers Linux 6.1 follows each length of
 * a name on each way there, and gives up. */
__noinline int end_of_name(__u32 size)
{
	__u32 i, zero = 0;
	struct question *q = bpf_map_lookup_elem(&asked, &zero);

	if (!q)
		return NAME;
	for (i = 0; i < NAME; i++) {
		if (i >= size)
			return NAME;
		if (!q->name[i])
			return i;
	}
	return NAME;
}

__noinline int reverse(__u32 end)
{
	__u32 i, zero = 0;
	struct question *q = bpf_map_lookup_elem(&asked, &zero);
	__u8 c;

	if (!q)
		return 0;
	for (i = 0; i < NAME; i++) {
		if (i > end)
			break;
		c = q->name[(end - i) & 0xff];
		q->key.name[i] = c >= 'A' && c <= 'Z' ? c + 32 : c;
	}
	q->key.name[(end + 1) & 0xff] = 0xff;
	q->key.length = (end + 2) * 8;
	return 0;
}

static __always_inline bool name_matches(struct __sk_buff *skb, const struct packet *packet, __u16 length)
{
	__u32 zero = 0, size, end;
	struct question *q = bpf_map_lookup_elem(&asked, &zero);

	if (!q || length <= UDP_HEADER + DNS_HEADER)
		return false;
	size = length - UDP_HEADER - DNS_HEADER - 1;
	if (size > NAME - 1)
		size = NAME - 1;
	asm volatile("%0 &= 0xff" : "+r"(size)); /* is so already; Linux 6.1 does not see it */
	size += 1;
	if (load(skb, packet->transport + UDP_HEADER + DNS_HEADER, q->name, size))
		return false;
	end = end_of_name(size);
	if (end >= NAME)
		return false;
	reverse(end);
	return bpf_map_lookup_elem(&names, &q->key);
}

/* A question over UDP, or a connection over which questions could come: what they ask is not known. */
static __always_inline bool is_query(struct __sk_buff *skb, const struct packet *packet, bool by_name)
{
	__be16 length;
	__u8 flags;

	if (packet->protocol == IPPROTO_TCP)
		return !by_name && begins_connection(skb, packet);
	if (packet->protocol != IPPROTO_UDP || !packet->transport ||
	    load(skb, packet->transport + 4, &length, sizeof(length)) ||
	    load(skb, packet->transport + UDP_HEADER + DNS_FLAGS, &flags, sizeof(flags)))
		return false;
	if (flags & 0xf8) /* an answer, or not a standard query */
		return false;
	return !by_name || name_matches(skb, packet, bpf_ntohs(length));
}
