/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Which of the matched events get the fault, and the counts of both. chain.h and number.h decide by it. */
#pragma once
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include "mix.h"

enum { MATCHED, INJECTED, BY_PROBABILITY, BY_TURN, BY_BUDGET, BY_LEASE, BY_OVERLAP, COUNTS };

/* Chances are 0 to 2^32. A plain percentage p is the chain with worsen = p, mend = 1 - p. */
struct rule {
	__u64 seed;
	__u64 budget; /* 0: without limit */
	__u64 worsen; /* chance to go from good to bad before an event */
	__u64 mend; /* and from bad to good */
	__u64 good; /* chance of the fault while good */
	__u64 bad; /* and while bad */
	__u64 after; /* number.h: pass over so many, */
	__u64 first; /* then take so many (0: all), */
	__u64 every; /* and of these every n-th */
	__u32 by_flow; /* decide once for each flow, by worsen alone */
	__u32 pad;
};

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
		__sync_fetch_and_add(counter, 1); /* a program may be preempted by another one on its CPU */
}

/* The draw for the event or flow of a number: the same seed, the same draw. */
static __always_inline __u64 draw(const volatile struct rule *rule, __u64 number)
{
	return mix(rule->seed ^ mix(number));
}
