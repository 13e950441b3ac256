// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* Makes system calls fail where the kernel asks its security modules: fmod_ret on security_*, or BPF LSM.
 * Such a hook also runs for what is not the call's own work (execve reads the file of a program), so the
 * call that the process is in must be wanted, and at this hook. */
#include <linux/bpf.h>
#include <bpf/bpf_tracing.h>
#include "call.h"

#define MAY_WRITE 2 /* include/linux/fs.h, as the next */
#define FMODE_NOACCOUNT 0x20000000 /* of what overlayfs opens below a file, for the same call once more */

static __noinline int judge(enum hook hook, struct subject *of)
{
	struct call_key key;
	struct call *call = wanted(&key, hook);

	return call ? verdict(&key, call, of) : 0;
}

static __always_inline int on_file(enum hook hook, struct file *file)
{
	struct subject of = {};

	if (file && BPF_CORE_READ(file, f_mode) & FMODE_NOACCOUNT)
		return 0;
	if (file)
		about_file(&of, file);
	return judge(hook, &of);
}

static __always_inline int on_path(enum hook hook, const struct path *path)
{
	struct subject of = {.dentry = BPF_CORE_READ(path, dentry), .vfs = BPF_CORE_READ(path, mnt)};

	return judge(hook, &of);
}

static __always_inline int on_entry(enum hook hook, const struct path *folder, struct dentry *dentry)
{
	struct subject of = {.dentry = dentry, .vfs = BPF_CORE_READ(folder, mnt)};

	return judge(hook, &of);
}

static __always_inline int on_socket(enum hook hook, struct socket *socket, void *address)
{
	struct subject of = {.sk = BPF_CORE_READ(socket, sk), .address = address};

	return judge(hook, &of);
}

static __always_inline int on_nothing(enum hook hook)
{
	struct subject of = {};

	return judge(hook, &of);
}

#define HOOK(hook, ...) SEC("fmod_ret/security_" #hook) int BPF_PROG(chaosd_##hook, ##__VA_ARGS__)

#define ON_FILE(hook, where)                 \
	HOOK(hook, struct file *file)        \
	{                                    \
		return on_file(where, file); \
	}

ON_FILE(file_open, FILE_OPEN)
ON_FILE(file_truncate, FILE_TRUNCATE)
ON_FILE(mmap_file, MMAP)
ON_FILE(file_ioctl, IOCTL)
ON_FILE(file_fcntl, FCNTL)
ON_FILE(file_lock, LOCK)

#define ON_PATH(hook, where)                 \
	HOOK(hook, struct path *path)        \
	{                                    \
		return on_path(where, path); \
	}

ON_PATH(inode_getattr, GETATTR)
ON_PATH(path_truncate, PATH_TRUNCATE)
ON_PATH(path_chmod, CHMOD)
ON_PATH(path_chown, CHOWN)

#define ON_ENTRY(hook, where)                                  \
	HOOK(hook, struct path *folder, struct dentry *dentry) \
	{                                                      \
		return on_entry(where, folder, dentry);        \
	}

ON_ENTRY(path_unlink, UNLINK)
ON_ENTRY(path_rmdir, RMDIR)
ON_ENTRY(path_rename, RENAME)
ON_ENTRY(path_mkdir, MKDIR)
ON_ENTRY(path_symlink, SYMLINK)

#define ON_SOCKET(hook, where)                         \
	HOOK(hook, struct socket *socket)              \
	{                                              \
		return on_socket(where, socket, NULL); \
	}

ON_SOCKET(socket_listen, LISTEN)
ON_SOCKET(socket_accept, ACCEPT)
ON_SOCKET(socket_recvmsg, RECEIVE)
ON_SOCKET(socket_shutdown, SHUTDOWN)
ON_SOCKET(socket_getsockopt, GETSOCKOPT)
ON_SOCKET(socket_setsockopt, SETSOCKOPT)

HOOK(file_permission, struct file *file, int mask)
{
	return on_file(mask & MAY_WRITE ? FILE_WRITE : FILE_READ, file);
}

HOOK(path_link, struct dentry *old, struct path *folder, struct dentry *dentry)
{
	return on_entry(LINK, folder, dentry);
}

HOOK(socket_create, int family, int type, int protocol, int of_kernel)
{
	return of_kernel ? 0 : on_nothing(SOCKET_CREATE);
}

HOOK(socket_bind, struct socket *socket, void *address)
{
	return on_socket(BIND, socket, address);
}

HOOK(socket_connect, struct socket *socket, void *address)
{
	return on_socket(CONNECT, socket, address);
}

HOOK(socket_sendmsg, struct socket *socket, struct msghdr *message)
{
	return on_socket(SEND, socket, BPF_CORE_READ(message, msg_name));
}

HOOK(task_alloc, void *task)
{
	return on_nothing(TASK_ALLOC);
}

HOOK(bprm_creds_for_exec, struct linux_binprm *program)
{
	return on_file(EXEC, BPF_CORE_READ(program, file));
}

HOOK(vm_enough_memory_mm, void *memory)
{
	return on_nothing(VM_ENOUGH);
}

HOOK(file_mprotect, struct vm_area_struct *area)
{
	return on_file(MPROTECT, BPF_CORE_READ(area, vm_file));
}

HOOK(task_kill, void *task)
{
	return on_nothing(KILL);
}

char _license[] SEC("license") = "Dual MIT/GPL";
