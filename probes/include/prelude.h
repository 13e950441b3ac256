/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Stands in front of a user's probe, which bcc compiles on the host. The maps are those of custom.bpf.c,
 * pinned where only the process that compiles can see them: probes of the user obey the very lease of
 * the engine, and their decisions and counts are those of number.h. */
#pragma once
#include "custom.h"
#include "roles.h"

BPF_TABLE_PINNED("array", u32, struct lease, chaosd_lease, 1, "/sys/fs/bpf/lease");
BPF_TABLE_PINNED("array", u32, struct custom, chaosd_custom, 1, "/sys/fs/bpf/custom");
BPF_TABLE_PINNED("array", u32, struct progress, chaosd_progress, 1, "/sys/fs/bpf/progress");
BPF_TABLE_PINNED("percpu_array", u32, u64, chaosd_counts, COUNTS, "/sys/fs/bpf/counts");
BPF_TABLE_PINNED("hash", u32, u32, chaosd_tasks, 65536, "/sys/fs/bpf/tasks");
BPF_TABLE_PINNED("lru_hash", u32, u64, chaosd_processes, 4096, "/sys/fs/bpf/processes");

/* bcc has no macro for pinned ones of these two kinds. */
struct chaosd_within_table_t {
	int key;
	u32 leaf;
	int (*check_current_task)(int);
	u32 max_entries;
};
__attribute__((section(
    "maps/cgroup_array:/sys/fs/bpf/within"))) struct chaosd_within_table_t chaosd_within = {.max_entries = 1};

struct chaosd_hits_table_t {
	int key;
	u32 leaf;
	int (*ringbuf_output)(void *, u64, u64);
	u32 max_entries;
};
__attribute__((section("maps/ringbuf:/sys/fs/bpf/hits"))) struct chaosd_hits_table_t chaosd_hits = {
    .max_entries = 256 * 1024};

static __always_inline bool chaosd_is_target(struct custom *custom)
{
	u32 tgid = bpf_get_current_pid_tgid() >> 32, *role = chaosd_tasks.lookup(&tgid);

	if (role)
		return *role == TARGET;
	return !custom->only_tasks && chaosd_within.check_current_task(0) == 1;
}

static __always_inline void chaosd_count(u32 what)
{
	u64 *counter = chaosd_counts.lookup(&what);

	if (counter)
		lock_xadd(counter, 1);
}

static __always_inline void chaosd_tell(void)
{
	u32 pid = bpf_get_current_pid_tgid() >> 32;
	u64 one = 1, *known = chaosd_processes.lookup(&pid);
	struct custom_hit hit = {.at = bpf_ktime_get_boot_ns(), .pid = pid};

	if (known)
		lock_xadd(known, 1);
	else
		chaosd_processes.update(&pid, &one);
	bpf_get_current_comm(&hit.comm, sizeof(hit.comm));
	chaosd_hits.ringbuf_output(&hit, sizeof(hit), 0);
}

static __always_inline bool chaosd_asks(bool counts)
{
	u32 zero = 0, outcome = BY_LEASE;
	const volatile struct lease *lease = chaosd_lease.lookup(&zero);
	struct custom *custom = chaosd_custom.lookup(&zero);
	struct progress *progress = chaosd_progress.lookup(&zero);

	if (!lease || !custom || !progress || !chaosd_is_target(custom))
		return false;
	if (!counts)
		return true;
	chaosd_count(MATCHED);
	if (bpf_ktime_get_boot_ns() < lease->deadline)
		outcome = outcome_of(&custom->rule, progress, 0, lease);
	chaosd_count(outcome);
	if (outcome != INJECTED)
		return false;
	chaosd_tell();
	return true;
}

/* Whether the current process belongs to the target. */
#define CHAOSD_IS_TARGET() chaosd_asks(false)

/* The same, and whether this event is to be hit: it is counted, so ask once for each. */
#define CHAOSD_STRIKES() chaosd_asks(true)

/* Whether a string in the kernel's memory reads as this literal, such as a parameter. */
#define CHAOSD_SAME(string, literal)                                                                 \
	({                                                                                           \
		char chaosd_read[sizeof(literal) + 1] = {};                                          \
		bool chaosd_same = true;                                                             \
		bpf_probe_read_kernel_str(chaosd_read, sizeof(chaosd_read), (const void *)(string)); \
		_Pragma("unroll") for (int chaosd_i = 0; chaosd_i < sizeof(literal); chaosd_i++)     \
		    chaosd_same &= chaosd_read[chaosd_i] == (literal)[chaosd_i];                     \
		chaosd_same;                                                                         \
	})
