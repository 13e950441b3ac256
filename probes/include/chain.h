/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Decides by chance in a two-state chain, so that hits may come in bursts; under a lock, for packets. */
#pragma once
#include "rule.h"

struct chain {
	struct bpf_spin_lock lock;
	__u32 is_bad;
	__u64 number; /* of events decided */
	__u64 spent; /* of the budget */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct chain);
} chain SEC(".maps");

static __always_inline bool chosen(const volatile struct rule *rule, struct chain *state, __u64 drawn)
{
	if (rule->by_flow)
		return (drawn >> 32) < rule->worsen;
	state->number += 1;
	if (state->is_bad)
		state->is_bad = (drawn >> 32) >= rule->mend;
	else
		state->is_bad = (drawn >> 32) < rule->worsen;
	return (drawn & 0xffffffff) < (state->is_bad ? rule->bad : rule->good);
}

/* Counts the event, and says whether it gets the fault. */
static __always_inline bool strikes(const volatile struct rule *rule, const volatile struct lease *leased,
				    __u64 flow)
{
	__u32 zero = 0, outcome = INJECTED;
	struct chain *state = bpf_map_lookup_elem(&chain, &zero);
	__u64 drawn;

	if (!state)
		return false;
	count(MATCHED);
	if (!leased) {
		count(BY_LEASE);
		return false;
	}
	bpf_spin_lock(&state->lock);
	drawn = draw(rule, rule->by_flow ? flow : state->number);
	if (!chosen(rule, state, drawn))
		outcome = BY_PROBABILITY;
	else if (is_spared(rule, leased, drawn))
		outcome = BY_STRENGTH;
	else if (rule->budget && state->spent >= rule->budget)
		outcome = BY_BUDGET;
	else
		state->spent += 1;
	bpf_spin_unlock(&state->lock);
	count(outcome);
	return outcome == INJECTED;
}
