// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* Makes connect(2) fail with any errno, by destination. */
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include "lease.h"
#include "match.h"
#include "number.h"
#include "tasks.h"

struct refusal {
	struct rule rule;
	struct filters filters;
	__s32 error; /* negative */
	__u32 only_tasks; /* the cgroup holds others too */
};

const volatile struct refusal refusal SEC(".rodata.config");

static __always_inline int judge(struct bpf_sock_addr *ctx, const struct endpoint *far, bool v4)
{
	const volatile struct filters *want = &refusal.filters;

	if (!protocol_matches(want, ctx->protocol, v4) || !address_matches(want, &far->address))
		return 1;
	if (want->has_far_ports && !port_in(FAR_PORT, far->port))
		return 1;
	if (!is_target(refusal.only_tasks))
		return 1;
	if (!strikes(&refusal.rule, lease_holds(), hash_of(far)))
		return 1;
	bpf_set_retval(refusal.error);
	return 0;
}

SEC("cgroup/connect4") int chaosd_connect4(struct bpf_sock_addr *ctx)
{
	struct endpoint far = {.port = bpf_ntohs(ctx->user_port)};

	map_v4(&far.address, ctx->user_ip4);
	return judge(ctx, &far, true);
}

SEC("cgroup/connect6") int chaosd_connect6(struct bpf_sock_addr *ctx)
{
	struct endpoint far = {.port = bpf_ntohs(ctx->user_port)};

	far.address.s6_addr32[0] = ctx->user_ip6[0];
	far.address.s6_addr32[1] = ctx->user_ip6[1];
	far.address.s6_addr32[2] = ctx->user_ip6[2];
	far.address.s6_addr32[3] = ctx->user_ip6[3];
	return judge(ctx, &far, false);
}

char _license[] SEC("license") = "Dual MIT/GPL";
