/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* What becomes of an event, by its number alone. Without maps, so that bcc can compile it, too: a user's
 * probe (prelude.h) is decided exactly as our own (number.h). */
#pragma once
#include <linux/types.h>
#include <stdbool.h>
#include "mix.h"

enum { MATCHED, INJECTED, BY_PROBABILITY, BY_TURN, BY_BUDGET, BY_LEASE, BY_OVERLAP, BY_STRENGTH, COUNTS };

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
	__u32 fault; /* its place in struct lease */
};

#define FAULTS 64 /* of one run */

/* One page that the engine writes and every program reads, and the processes that decide as they do. */
struct lease {
	__u64 deadline; /* CLOCK_BOOTTIME, nanoseconds */
	__u64 spared[FAULTS]; /* the share of what a fault has chosen that gets nothing yet, of 2^32 */
	__u64 weakened[FAULTS]; /* how much of its strength is missing where it has one, of 2^32 */
};

struct progress {
	__u64 number; /* of events decided */
	__u64 spent; /* of the budget */
};

/* The draw for the event or flow of a number: the same seed, the same draw. */
static __always_inline __u64 draw(const volatile struct rule *rule, __u64 number)
{
	return mix(rule->seed ^ mix(number));
}

static __always_inline bool has_turn(const volatile struct rule *rule, __u64 number)
{
	if (number < rule->after || (rule->first && number >= rule->after + rule->first))
		return false;
	return rule->every < 2 || (number - rule->after) % rule->every == 0;
}

/* Whether what was chosen by this draw is left out for now: as the share shrinks, ever fewer of the same. */
static __always_inline bool is_spared(const volatile struct rule *rule, const volatile struct lease *lease,
				      __u64 drawn)
{
	return lease && mix(drawn) >> 32 < lease->spared[rule->fault % FAULTS];
}

static __always_inline __u32 outcome_of(const volatile struct rule *rule, struct progress *at, __u64 flow,
					const volatile struct lease *lease)
{
	__u64 number = __sync_fetch_and_add(&at->number, 1), drawn = draw(rule, rule->by_flow ? flow : number);

	if (!has_turn(rule, number))
		return BY_TURN;
	if (drawn >> 32 >= rule->worsen)
		return BY_PROBABILITY;
	if (is_spared(rule, lease, drawn))
		return BY_STRENGTH;
	if (rule->budget && __sync_fetch_and_add(&at->spent, 1) >= rule->budget)
		return BY_BUDGET;
	return INJECTED;
}
