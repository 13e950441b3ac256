/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Which of the matched events get the fault: seeded chance in a two-state chain, a budget, counts. */
#pragma once
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include "mix.h"

enum { MATCHED, INJECTED, BY_PROBABILITY, BY_BUDGET, BY_LEASE, BY_OVERLAP, COUNTS };

/* Chances are 0 to 2^32. A plain percentage p is the chain with worsen = p, mend = 1 - p. */
struct rule {
	__u64 seed;
	__u64 budget; /* 0: without limit */
	__u64 worsen; /* chance to go from good to bad before an event */
	__u64 mend; /* and from bad to good */
	__u64 good; /* chance of the fault while good */
	__u64 bad; /* and while bad */
	__u32 by_flow; /* decide once for each flow, by worsen alone */
	__u32 pad;
};

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

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTS);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

static __always_inline void count(__u32 what)
{
	__u64 *counter = bpf_map_lookup_elem(&counts, &what);

	if (counter)
		*counter += 1;
}

static __always_inline bool chosen(const volatile struct rule *rule, struct chain *state, __u64 flow)
{
	__u64 draw = mix(rule->seed ^ mix(rule->by_flow ? flow : state->number));

	if (rule->by_flow)
		return (draw >> 32) < rule->worsen;
	state->number += 1;
	if (state->is_bad)
		state->is_bad = (draw >> 32) >= rule->mend;
	else
		state->is_bad = (draw >> 32) < rule->worsen;
	return (draw & 0xffffffff) < (state->is_bad ? rule->bad : rule->good);
}

/* Counts the event, and says whether it gets the fault. */
static __always_inline bool strikes(const volatile struct rule *rule, bool leased, __u64 flow)
{
	__u32 zero = 0, outcome = INJECTED;
	struct chain *state = bpf_map_lookup_elem(&chain, &zero);

	if (!state)
		return false;
	count(MATCHED);
	if (!leased) {
		count(BY_LEASE);
		return false;
	}
	bpf_spin_lock(&state->lock);
	if (!chosen(rule, state, flow))
		outcome = BY_PROBABILITY;
	else if (rule->budget && state->spent >= rule->budget)
		outcome = BY_BUDGET;
	else
		state->spent += 1;
	bpf_spin_unlock(&state->lock);
	count(outcome);
	return outcome == INJECTED;
}
