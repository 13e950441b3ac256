// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* Makes calls on IPv4 and IPv6 sockets fail with any errno (bpf_set_retval, Linux 5.18), by programs on a
 * cgroup. Needs neither BTF nor anything that traces. */
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include "injection.h"

#define BY_CGROUP 3 /* in place of a system call's number: which of these programs */

enum { CREATE, BIND, CONNECT, SENDMSG };

static __always_inline int judge(__u32 what, const struct endpoint *end, __u8 protocol)
{
	struct hit hit = {.number = what, .compat = BY_CGROUP, .port = end->port};

	if (!is_target(injection.only_tasks) || !socket_matches(end, protocol))
		return 1;
	if (!strikes(&injection.rule, lease_held(), hash_of(end)))
		return 1;
	__builtin_memcpy(hit.address, &end->address, sizeof(hit.address));
	report_hit(&hit);
	bpf_set_retval(injection.error);
	return 0;
}

static __always_inline int judge_v4(__u32 what, struct bpf_sock_addr *ctx)
{
	struct endpoint end = {.port = bpf_ntohs(ctx->user_port)};

	map_v4(&end.address, ctx->user_ip4);
	return judge(what, &end, ctx->protocol);
}

static __always_inline int judge_v6(__u32 what, struct bpf_sock_addr *ctx)
{
	struct endpoint end = {.port = bpf_ntohs(ctx->user_port)};

	end.address.s6_addr32[0] = ctx->user_ip6[0];
	end.address.s6_addr32[1] = ctx->user_ip6[1];
	end.address.s6_addr32[2] = ctx->user_ip6[2];
	end.address.s6_addr32[3] = ctx->user_ip6[3];
	return judge(what, &end, ctx->protocol);
}

#define ADDRESS(section, what, family)                                                          \
	SEC("cgroup/" #section #family) int chaosd_##section##family(struct bpf_sock_addr *ctx) \
	{                                                                                       \
		return judge_v##family(what, ctx);                                              \
	}

ADDRESS(bind, BIND, 4)
ADDRESS(bind, BIND, 6)
ADDRESS(connect, CONNECT, 4)
ADDRESS(connect, CONNECT, 6)
ADDRESS(sendmsg, SENDMSG, 4)
ADDRESS(sendmsg, SENDMSG, 6)

SEC("cgroup/sock_create") int chaosd_sock_create(struct bpf_sock *ctx)
{
	struct endpoint nowhere = {};

	return judge(CREATE, &nowhere, ctx->protocol);
}

char _license[] SEC("license") = "Dual MIT/GPL";
