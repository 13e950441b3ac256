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

HOOK(file_open, struct file *file)
{
	return on_file(FILE_OPEN, file);
}

HOOK(file_permission, struct file *file, int mask)
{
	return on_file(mask & MAY_WRITE ? FILE_WRITE : FILE_READ, file);
}

HOOK(inode_getattr, struct path *path)
{
	return on_path(GETATTR, path);
}

HOOK(path_unlink, struct path *folder, struct dentry *dentry)
{
	return on_entry(UNLINK, folder, dentry);
}

HOOK(path_rmdir, struct path *folder, struct dentry *dentry)
{
	return on_entry(RMDIR, folder, dentry);
}

HOOK(path_rename, struct path *folder, struct dentry *dentry)
{
	return on_entry(RENAME, folder, dentry);
}

HOOK(path_mkdir, struct path *folder, struct dentry *dentry)
{
	return on_entry(MKDIR, folder, dentry);
}

HOOK(path_symlink, struct path *folder, struct dentry *dentry)
{
	return on_entry(SYMLINK, folder, dentry);
}

HOOK(path_link, struct dentry *old, struct path *folder, struct dentry *dentry)
{
	return on_entry(LINK, folder, dentry);
}

HOOK(path_truncate, struct path *path)
{
	return on_path(PATH_TRUNCATE, path);
}

HOOK(file_truncate, struct file *file)
{
	return on_file(FILE_TRUNCATE, file);
}

HOOK(path_chmod, struct path *path)
{
	return on_path(CHMOD, path);
}

HOOK(path_chown, struct path *path)
{
	return on_path(CHOWN, path);
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

HOOK(socket_listen, struct socket *socket)
{
	return on_socket(LISTEN, socket, NULL);
}

HOOK(socket_accept, struct socket *socket)
{
	return on_socket(ACCEPT, socket, NULL);
}

HOOK(socket_sendmsg, struct socket *socket, struct msghdr *message)
{
	return on_socket(SEND, socket, BPF_CORE_READ(message, msg_name));
}

HOOK(socket_recvmsg, struct socket *socket)
{
	return on_socket(RECEIVE, socket, NULL);
}

HOOK(socket_shutdown, struct socket *socket)
{
	return on_socket(SHUTDOWN, socket, NULL);
}

HOOK(socket_getsockopt, struct socket *socket)
{
	return on_socket(GETSOCKOPT, socket, NULL);
}

HOOK(socket_setsockopt, struct socket *socket)
{
	return on_socket(SETSOCKOPT, socket, NULL);
}

HOOK(task_alloc, void *task)
{
	return on_nothing(TASK_ALLOC);
}

HOOK(bprm_creds_for_exec, struct linux_binprm *program)
{
	return on_file(EXEC, BPF_CORE_READ(program, file));
}

HOOK(mmap_file, struct file *file)
{
	return on_file(MMAP, file);
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

HOOK(file_ioctl, struct file *file)
{
	return on_file(IOCTL, file);
}

HOOK(file_fcntl, struct file *file)
{
	return on_file(FCNTL, file);
}

HOOK(file_lock, struct file *file)
{
	return on_file(LOCK, file);
}

char _license[] SEC("license") = "Dual MIT/GPL";
