/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The system call that a process is in: whether it is meant, what it is about, and whether it fails. */
#pragma once
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <stdbool.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include "injection.h"
#include "path.h"

#define TS_COMPAT 2 /* arch/x86/include/asm/thread_info.h */
#define TIF_32BIT 22 /* arch/arm64/include/asm/thread_info.h */
#define PF_IO_WORKER 0x10 /* include/linux/sched.h */
#define IO_URING_ENTER 426 /* the same on every architecture */
#define AF_INET 2
#define AF_INET6 10
#define S_IFMT 0170000
#define S_IFSOCK 0140000

/* Where a call is met; chaosd/kernel/hooks.py has them in the same order. */
enum hook {
	ENTRY,
	FILE_OPEN,
	FILE_READ,
	FILE_WRITE,
	GETATTR,
	UNLINK,
	RMDIR,
	RENAME,
	MKDIR,
	SYMLINK,
	LINK,
	PATH_TRUNCATE,
	FILE_TRUNCATE,
	CHMOD,
	CHOWN,
	SOCKET_CREATE,
	BIND,
	CONNECT,
	LISTEN,
	ACCEPT,
	SEND,
	RECEIVE,
	SHUTDOWN,
	GETSOCKOPT,
	SETSOCKOPT,
	TASK_ALLOC,
	EXEC,
	MMAP,
	VM_ENOUGH,
	MPROTECT,
	KILL,
	IOCTL,
	FCNTL,
	LOCK,
};

/* A call by its number, of a 32-bit caller with compat 1; with ASYNCHRONOUS the number is a hook's. */
struct call_key {
	__u32 number, compat;
};

#define ASYNCHRONOUS 2

/* What is known of a wanted call. Arguments count from 1; 0: there is none. */
struct call {
	__u64 hooks; /* bits: met there and nowhere else */
	__u8 descriptor, address;
	__u8 message; /* a msghdr, which begins with the pointer to an address */
	__u8 own; /* its socket is meant by its own end, as of one that listens */
	__u8 pad[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct call_key);
	__type(value, struct call);
} calls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_CGROUP_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, 4);
	__uint(value_size, 4);
} within SEC(".maps");

/* What a call is about, as far as its hook knows. */
struct subject {
	struct dentry *dentry;
	struct vfsmount *vfs;
	struct sock *sk;
	void *address; /* a sockaddr in kernel memory, or in the process's with of_user */
	bool of_user;
};

static __always_inline bool is_ours(void)
{
	if (!is_target(injection.only_tasks))
		return false;
	return injection.only_tasks || bpf_current_task_under_cgroup(&within, 0) == 1;
}

static __always_inline struct call_key current_call(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	void *regs = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
	struct call_key key = {};

	if (bpf_core_field_exists(struct pt_regs___x86, orig_ax)) {
		key.number = BPF_CORE_READ((struct pt_regs___x86 *)regs, orig_ax);
		key.compat = !!(BPF_CORE_READ(task, thread_info.status) & TS_COMPAT);
	} else {
		key.number = BPF_CORE_READ((struct pt_regs___arm64 *)regs, syscallno);
		key.compat = BPF_CORE_READ(task, thread_info.flags) >> TIF_32BIT & 1;
	}
	return key;
}

static __always_inline __u64 argument_x86(struct pt_regs___x86 *regs, __u32 number, bool compat)
{
	switch (number) {
	case 1:
		return compat ? (__u32)BPF_CORE_READ(regs, bx) : BPF_CORE_READ(regs, di);
	case 2:
		return compat ? (__u32)BPF_CORE_READ(regs, cx) : BPF_CORE_READ(regs, si);
	case 3:
		return compat ? (__u32)BPF_CORE_READ(regs, dx) : BPF_CORE_READ(regs, dx);
	case 4:
		return compat ? (__u32)BPF_CORE_READ(regs, si) : BPF_CORE_READ(regs, r10);
	default:
		return compat ? (__u32)BPF_CORE_READ(regs, di) : BPF_CORE_READ(regs, r8);
	}
}

/* An argument of the current call, 1 to 5. */
static __always_inline __u64 argument(__u32 number, bool compat)
{
	void *regs = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
	__u64 value = 0;

	if (bpf_core_field_exists(struct pt_regs___x86, orig_ax))
		return argument_x86(regs, number, compat);
	bpf_core_read(&value, sizeof(value), &((struct pt_regs___arm64 *)regs)->regs[(number - 1) & 7]);
	return value;
}

static __always_inline void about_file(struct subject *of, struct file *file)
{
	struct socket *socket;

	of->dentry = BPF_CORE_READ(file, f_path.dentry);
	of->vfs = BPF_CORE_READ(file, f_path.mnt);
	if ((BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) == S_IFSOCK) {
		socket = BPF_CORE_READ(file, private_data);
		of->sk = BPF_CORE_READ(socket, sk);
	}
}

/* The file of a descriptor of the current process; NULL when there is none. */
static __always_inline struct file *file_of(__u32 descriptor)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **slots = BPF_CORE_READ(table, fd), *file = NULL;

	if (descriptor < BPF_CORE_READ(table, max_fds))
		bpf_probe_read_kernel(&file, sizeof(file), slots + descriptor);
	return file;
}

struct generic_address {
	__u16 family;
	__be16 port;
	__be32 v4;
	struct in6_addr v6;
};

static __always_inline bool read_address(const struct subject *of, struct endpoint *end)
{
	struct generic_address said = {};
	/* sockaddr_in is shorter than sockaddr_in6, and nothing may lie behind it */
	long got = of->of_user ? bpf_probe_read_user(&said, 8, of->address)
			       : bpf_probe_read_kernel(&said, 8, of->address);

	if (got)
		return false;
	end->port = bpf_ntohs(said.port);
	if (said.family == AF_INET) {
		map_v4(&end->address, said.v4);
		return true;
	}
	if (said.family != AF_INET6)
		return false;
	got = of->of_user ? bpf_probe_read_user(&end->address, 16, of->address + 8)
			  : bpf_probe_read_kernel(&end->address, 16, of->address + 8);
	return !got;
}

static __always_inline bool read_socket(struct sock *sk, bool own, struct endpoint *end)
{
	__u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);

	end->port = own ? BPF_CORE_READ(sk, __sk_common.skc_num)
			: bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	if (family == AF_INET)
		map_v4(&end->address, own ? BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr)
					  : BPF_CORE_READ(sk, __sk_common.skc_daddr));
	else if (family == AF_INET6 && own)
		BPF_CORE_READ_INTO(&end->address, sk, __sk_common.skc_v6_rcv_saddr);
	else if (family == AF_INET6)
		BPF_CORE_READ_INTO(&end->address, sk, __sk_common.skc_v6_daddr);
	return family == AF_INET || family == AF_INET6;
}

static __always_inline void report(const struct call_key *key, const struct spelling *path,
				   const struct endpoint *end)
{
	struct hit hit = {.number = key->number, .compat = key->compat, .port = end->port};
	__u32 start;

	bpf_get_current_comm(hit.comm, sizeof(hit.comm));
	__builtin_memcpy(hit.address, &end->address, sizeof(hit.address));
	if (path) {
		start = path->start < ROOM - DETAIL + 1 ? ROOM - DETAIL + 1 : path->start;
		bpf_probe_read_kernel_str(hit.detail, DETAIL, &path->text[start & (ROOM - 1)]);
	}
	report_hit(&hit);
}

/* Work of io_uring is in no call of its own, neither while it is submitted nor in a worker. */
static __always_inline bool is_asynchronous(const struct call_key *key)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	return (key->number == IO_URING_ENTER && !key->compat) || BPF_CORE_READ(task, flags) & PF_IO_WORKER;
}

/* The call that the process is in, if it is wanted at this hook. */
static __always_inline struct call *wanted(struct call_key *key, enum hook hook)
{
	struct call *call;

	if (!is_ours())
		return NULL;
	*key = current_call();
	call = bpf_map_lookup_elem(&calls, key);
	if (!call && is_asynchronous(key)) {
		key->number = hook;
		key->compat = ASYNCHRONOUS;
		call = bpf_map_lookup_elem(&calls, key);
	}
	return call && call->hooks >> hook & 1 ? call : NULL;
}

static __always_inline bool is_about(const struct call *call, const struct subject *of, struct endpoint *end,
				     struct spelling **path)
{
	struct sock *sk = of->sk;
	bool found = of->address ? read_address(of, end) : sk && read_socket(sk, call->own, end);

	if (injection.has_sockets && !(found && socket_matches(end, sk ? BPF_CORE_READ(sk, sk_protocol) : 0)))
		return false;
	if (of->dentry)
		*path = spell(of->dentry, of->vfs);
	return !injection.has_path || path_matches(*path);
}

/* What the current call is to return instead; 0: nothing. */
static __always_inline int verdict(const struct call_key *key, const struct call *call,
				   const struct subject *of)
{
	struct spelling *path = NULL;
	struct endpoint end = {};

	if (!is_about(call, of, &end, &path) || !strikes(&injection.rule, lease_held(), hash_of(&end)))
		return 0;
	report(key, path, &end);
	return injection.error;
}
