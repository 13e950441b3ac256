// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* The gate on an interface: which packets get the fault. Drops, doubles and answers them itself; for
 * what needs a queue it only says "match", and the filter's action takes the packet there. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include "answer.h"
#include "chain.h"
#include "kind.h"
#include "lease.h"
#include "match.h"
#include "owner.h"
#include "packet.h"

#define QUEUE_RANK 64 /* and above: the ranks of gates that queue */

enum { ACT_DROP, ACT_MATCH, ACT_DOUBLE, ACT_ANSWER };
enum { OUT, IN, ON_LO };

/* Whom it meets. A gate may be loaded before that is known. */
struct aim {
	struct rule rule;
	struct filters filters;
	__u16 tag; /* 0x4000 | netns hash << 8 | rank of this gate; left in tc_index of what matched */
	__u8 only_tagged; /* sockets of the target; otherwise all traffic */
	__u8 pad[5];
};

const volatile struct aim aim SEC(".rodata.aim");

/* What it does: known to the verifier, which passes over the rest. */
struct gate {
	__u8 act;
	__u8 kind; /* of packet, kind.h */
	__u8 has_names;
	__u8 code; /* of a DNS answer */
	__u8 once; /* an ifb that another gate of ours has used already cannot be left for a second one */
	__u8 anew; /* answers come in by lo as from a wire, so that NAT sees them */
	__u8 pad[2];
};

const volatile struct gate gate SEC(".rodata.config");

/* A packet passes several of our gates, and the same one again after a queue or on a stacked device. */
static __always_inline bool seen(const struct __sk_buff *skb)
{
	return (skb->tc_index & 0xff00) == (aim.tag & 0xff00) && (skb->tc_index & 0xff) >= (aim.tag & 0xff);
}

/* ifb marks what it puts back so that the next action is skipped (drivers/net/ifb.c: tc_skip_classify). */
static __always_inline bool was_queued(const struct __sk_buff *skb)
{
	return gate.once && (skb->tc_index & 0xff00) == (aim.tag & 0xff00) &&
	       (skb->tc_index & 0xff) >= QUEUE_RANK;
}

static __always_inline bool leaves_target(struct __sk_buff *skb, const struct packet *packet)
{
	struct bpf_sock *sk;

	if (!aim.only_tagged)
		return true;
	sk = skb->sk;
	return sk ? is_tagged(sk) : lookup(skb, packet, &packet->from, &packet->to);
}

/* What a socket sent is told from the socket alone, before the packet is read: most of them are others'. */
static __always_inline bool sent_by_another(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	return aim.only_tagged && sk && !is_tagged(sk);
}

static __always_inline bool enters_target(struct __sk_buff *skb, const struct packet *packet)
{
	return !aim.only_tagged || lookup(skb, packet, &packet->to, &packet->from);
}

static __always_inline bool wanted(const struct packet *packet, const struct endpoint *near,
				   const struct endpoint *far)
{
	const volatile struct filters *want = &aim.filters;

	if (!protocol_matches(want, packet->protocol, packet->v4))
		return false;
	if (want->has_far_ports && !(packet->has_ports && port_in(FAR_PORT, far->port)))
		return false;
	if (want->has_near_ports && !(packet->has_ports && port_in(NEAR_PORT, near->port)))
		return false;
	return address_matches(want, &far->address);
}

static __always_inline bool of_kind(struct __sk_buff *skb, const struct packet *packet)
{
	if (gate.kind == CONNECTIONS)
		return begins_connection(skb, packet);
	return gate.kind != QUERIES || is_query(skb, packet, gate.has_names);
}

/* On lo it goes on as it is, and comes in again. There a redirect takes its route from it, which only
 * route_localnet makes up for; and its conntrack entry, by which NAT takes it for a question still. */
static __always_inline int send_back(struct __sk_buff *skb, const struct packet *packet, int way)
{
	if (!answer(skb, packet, gate.code))
		return TC_ACT_STOLEN;
	if (way == ON_LO && !gate.anew)
		return TC_ACT_UNSPEC;
	return bpf_redirect(skb->ifindex, way == IN ? 0 : BPF_F_INGRESS);
}

static __always_inline int verdict(struct __sk_buff *skb, const struct packet *packet, int way)
{
	const volatile struct lease *leased = lease_held();
	int pass = gate.act == ACT_MATCH ? 0 : TC_ACT_UNSPEC;

	if (was_queued(skb)) {
		count(MATCHED);
		count(BY_OVERLAP);
		return pass;
	}
	if (leased)
		skb->tc_index = aim.tag;
	if (!strikes(&aim.rule, leased, flow_of(packet)))
		return pass;
	if (gate.act == ACT_MATCH)
		return 1;
	if (gate.act == ACT_DROP)
		return TC_ACT_STOLEN; /* silent; TC_ACT_SHOT would tell a local TCP at once */
	if (gate.act == ACT_ANSWER)
		return send_back(skb, packet, way);
	bpf_clone_redirect(skb, skb->ifindex, way == IN ? BPF_F_INGRESS : 0);
	return pass;
}

static __always_inline bool out(struct __sk_buff *skb, const struct packet *packet)
{
	return wanted(packet, &packet->from, &packet->to) && leaves_target(skb, packet);
}

static __always_inline bool in(struct __sk_buff *skb, const struct packet *packet)
{
	return wanted(packet, &packet->to, &packet->from) && enters_target(skb, packet);
}

#define GATE(name, spared, condition, way)                                                                   \
	SEC("tc") int name(struct __sk_buff *skb)                                                            \
	{                                                                                                    \
		struct packet packet = {};                                                                   \
                                                                                                             \
		if ((spared) || seen(skb) || !parse(skb, &packet) || !(condition) || !of_kind(skb, &packet)) \
			return gate.act == ACT_MATCH ? 0 : TC_ACT_UNSPEC;                                    \
		return verdict(skb, &packet, way);                                                           \
	}

GATE(chaosd_out, sent_by_another(skb), out(skb, &packet), OUT)
GATE(chaosd_in, false, in(skb, &packet), IN)

/* On lo each packet of both directions leaves. What could be either counts as sent by the initiator. */
GATE(chaosd_loop_out, sent_by_another(skb), out(skb, &packet) && (initiates(&packet) || !in(skb, &packet)),
     ON_LO)
GATE(chaosd_loop_in, false, in(skb, &packet) && (!initiates(&packet) || !out(skb, &packet)), ON_LO)

char _license[] SEC("license") = "Dual MIT/GPL";
