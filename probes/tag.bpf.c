// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* Tags the sockets that the target makes, and follows its processes through fork and exit. */
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include "tagged.h"
#include "tasks.h"
#include "vmlinux.h"

const volatile struct {
	__u32 only_tasks; /* the cgroup holds others too */
} config SEC(".rodata.config");

SEC("cgroup/sock_create") int chaosd_socket(struct bpf_sock *ctx)
{
	if (is_target(config.only_tasks))
		bpf_sk_storage_get(&tagged, ctx, 0, BPF_SK_STORAGE_GET_F_CREATE);
	return 1;
}

SEC("raw_tp/sched_process_fork") int chaosd_fork(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *parent = (void *)ctx->args[0], *child = (void *)ctx->args[1];
	__u32 from = BPF_CORE_READ(parent, tgid), to = BPF_CORE_READ(child, tgid);
	__u32 *role = from == to ? NULL : bpf_map_lookup_elem(&tasks, &from), inherited;

	if (role && *role != SPARED) {
		inherited = *role;
		bpf_map_update_elem(&tasks, &to, &inherited, BPF_ANY);
	}
	return 0;
}

SEC("raw_tp/sched_process_exit") int chaosd_exit(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (void *)ctx->args[0];
	__u32 tgid = BPF_CORE_READ(task, tgid);

	if (BPF_CORE_READ(task, signal, live.counter) == 0)
		bpf_map_delete_elem(&tasks, &tgid);
	return 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
