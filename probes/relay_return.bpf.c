// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* On the relay's TAP device: what it writes back goes on where it was taken from. No lease: what was
 * detained must arrive, also when the fault is over. */
#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

struct origin {
	__u32 ifindex;
	__u32 flags; /* BPF_F_INGRESS for what was coming in */
	__u32 tag; /* of the gate that sent it here, which must not take it again */
};

const volatile struct origin origin SEC(".rodata.config");

SEC("tc") int chaosd_return(struct __sk_buff *skb)
{
	bpf_skb_change_type(skb, PACKET_HOST); /* the TAP took it for a stranger's, and lo would believe it */
	skb->tc_index = origin.tag;
	return bpf_redirect(origin.ifindex, origin.flags);
}

char _license[] SEC("license") = "Dual MIT/GPL";
