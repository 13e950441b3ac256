/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Decides each event by its number alone, so that a run can be replayed exactly. Without a lock, which
 * kprobes may not take: kernel/bpf/verifier.c, "tracing progs cannot use bpf_spin_lock yet". */
#pragma once
#include "rule.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct progress);
} progress SEC(".maps");

/* Counts the event, and says whether it gets the fault. */
static __always_inline bool strikes(const volatile struct rule *rule, const volatile struct lease *leased,
				    __u64 flow)
{
	__u32 zero = 0, outcome = BY_LEASE;
	struct progress *at = bpf_map_lookup_elem(&progress, &zero);

	if (!at)
		return false;
	count(MATCHED);
	if (leased)
		outcome = outcome_of(rule, at, flow, leased);
	count(outcome);
	return outcome == INJECTED;
}
