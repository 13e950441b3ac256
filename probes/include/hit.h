/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* What was hit: how often in each process, and samples of single events for whoever watches. */
#pragma once
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define DETAIL 128

struct hit {
	__u64 at; /* CLOCK_BOOTTIME, nanoseconds */
	__u32 pid; /* of the process */
	__u32 number; /* of the system call */
	__u32 compat; /* of a 32-bit caller */
	__u32 port; /* far end, where family is not 0 */
	__u32 address[4];
	char comm[16]; /* empty where the kernel does not tell it (cgroup programs before Linux 6.1) */
	char detail[DETAIL]; /* the end of a path */
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} hits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u64);
} processes SEC(".maps");

static __always_inline void count_process(void)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	__u64 one = 1, *known = bpf_map_lookup_elem(&processes, &pid);

	if (known)
		__sync_fetch_and_add(known, 1);
	else
		bpf_map_update_elem(&processes, &pid, &one, BPF_ANY);
}

/* The rest of a sample is filled in; it is lost while nobody has read those before. */
static __always_inline void report_hit(struct hit *hit)
{
	count_process();
	hit->at = bpf_ktime_get_boot_ns();
	hit->pid = bpf_get_current_pid_tgid() >> 32;
	bpf_ringbuf_output(&hits, hit, sizeof(*hit), 0);
}
