/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Decides each event by its number alone, so that a run can be replayed exactly. Without a lock, which
 * kprobes may not take: kernel/bpf/verifier.c, "tracing progs cannot use bpf_spin_lock yet". */
#pragma once
#include "rule.h"

struct progress {
	__u64 number; /* of events decided */
	__u64 spent; /* of the budget */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct progress);
} progress SEC(".maps");

static __always_inline bool has_turn(const volatile struct rule *rule, __u64 number)
{
	if (number < rule->after || (rule->first && number >= rule->after + rule->first))
		return false;
	return rule->every < 2 || (number - rule->after) % rule->every == 0;
}

static __always_inline __u32 outcome_of(const volatile struct rule *rule, struct progress *at, __u64 flow)
{
	__u64 number = __sync_fetch_and_add(&at->number, 1);

	if (!has_turn(rule, number))
		return BY_TURN;
	if (draw(rule, rule->by_flow ? flow : number) >> 32 >= rule->worsen)
		return BY_PROBABILITY;
	if (rule->budget && __sync_fetch_and_add(&at->spent, 1) >= rule->budget)
		return BY_BUDGET;
	return INJECTED;
}

/* Counts the event, and says whether it gets the fault. */
static __always_inline bool strikes(const volatile struct rule *rule, bool leased, __u64 flow)
{
	__u32 zero = 0, outcome = BY_LEASE;
	struct progress *at = bpf_map_lookup_elem(&progress, &zero);

	if (!at)
		return false;
	count(MATCHED);
	if (leased)
		outcome = outcome_of(rule, at, flow);
	count(outcome);
	return outcome == INJECTED;
}
