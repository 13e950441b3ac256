/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The path of a file as its process sees it, and whether a pattern covers it. */
#pragma once
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include "vmlinux.h"

#define ROOM 1024 /* for a path; a longer one is matched by nothing */
#define NAME 256 /* NAME_MAX and a zero */
#define COMPONENTS 40 /* and mount points on the way */
#define PATTERN 256
#define GLOB_STEPS 4096

/* Where there is none (before Linux 5.17, e6f2dd0f8067) no path is spelled, and none can be asked for. */
#define HAS_LOOP bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_loop)

enum { ONE = 1, SOME, ANY }; /* ?, *, ** in a pattern */

/* Verifiers before Linux 6.7 (ab5cfac139ab) look at one turn of bpf_loop only and take for dead what
 * constants rule out in it. So the state that a loop begins with is made of zeros out of a map. */
struct pattern {
	__u32 is_glob;
	__u32 zero;
	char text[PATTERN];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pattern);
} pattern SEC(".maps");

struct spelling {
	__u32 start; /* of the path, which ends at ROOM with a zero */
	__u32 zero;
	char text[ROOM + NAME];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct spelling);
} spelling SEC(".maps");

struct walk {
	struct dentry *dentry, *top;
	struct vfsmount *vfs, *top_vfs;
	struct spelling *path;
	__u32 at, done;
};

/* One component, or one mount, nearer to the root: fs/d_path.c does the same. */
static long climb(__u32 step, struct walk *walk)
{
	struct dentry *dentry = walk->dentry, *parent = BPF_CORE_READ(dentry, d_parent);
	struct vfsmount *vfs = walk->vfs;
	struct mount *mount, *above;
	__u32 length, at = walk->at;

	if (dentry == walk->top && vfs == walk->top_vfs)
		goto done;
	if (dentry == parent || dentry == BPF_CORE_READ(vfs, mnt_root)) {
		mount = (void *)vfs - bpf_core_field_offset(struct mount, mnt);
		above = BPF_CORE_READ(mount, mnt_parent);
		if (above == mount)
			goto done;
		walk->dentry = BPF_CORE_READ(mount, mnt_mountpoint);
		walk->vfs = (void *)above + bpf_core_field_offset(struct mount, mnt);
		return 0;
	}
	length = BPF_CORE_READ(dentry, d_name.len) & (NAME - 1);
	if (at > ROOM || at < length + 1)
		return 1;
	at -= length + 1;
	walk->path->text[at & (ROOM - 1)] = '/';
	bpf_probe_read_kernel(&walk->path->text[(at + 1) & (ROOM - 1)], length,
			      BPF_CORE_READ(dentry, d_name.name));
	walk->at = at;
	walk->dentry = parent;
	return 0;
done:
	walk->done = 1;
	return 1;
}

/* From the leaf up to the root of the process; NULL where it does not fit. */
static __always_inline struct spelling *spell(struct dentry *dentry, struct vfsmount *vfs)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct walk walk = {.dentry = dentry, .vfs = vfs};
	__u32 zero = 0;

	walk.path = bpf_map_lookup_elem(&spelling, &zero);
	if (!walk.path || !HAS_LOOP)
		return NULL;
	walk.at = ROOM + walk.path->zero;
	walk.path->text[ROOM] = 0;
	walk.top = BPF_CORE_READ(task, fs, root.dentry);
	walk.top_vfs = BPF_CORE_READ(task, fs, root.mnt);
	bpf_loop(COMPONENTS, climb, &walk, 0);
	walk.path->start = walk.at;
	return walk.done ? walk.path : NULL;
}

struct glob {
	const struct pattern *want;
	const struct spelling *path;
	__u32 read, at; /* letters of the path and of the pattern that are dealt with */
	__u32 some, some_read, any, any_read; /* where the last * and ** stand, plus 1, and what they took */
	__u32 matches;
};

static __always_inline char letter(const struct spelling *path, __u32 index)
{
	__u32 at = path->start + index;

	return at < ROOM ? path->text[at & (ROOM - 1)] : 0;
}

/* One step of a match that tries the shortest first. A * that comes to a slash gives up to the ** before it.
 */
static long glob_step(__u32 step, struct glob *glob)
{
	char want = glob->want->text[glob->at & (PATTERN - 1)], got = letter(glob->path, glob->read);

	if (want == SOME) {
		glob->some = ++glob->at;
		glob->some_read = glob->read;
	} else if (want == ANY) {
		glob->any = ++glob->at;
		glob->any_read = glob->read;
		glob->some = 0;
	} else if (want && got && (want == got || (want == ONE && got != '/'))) {
		glob->at++;
		glob->read++;
	} else if (!want && (!got || (got == '/' && !glob->want->is_glob))) {
		glob->matches = 1;
		return 1;
	} else if (glob->some && (got = letter(glob->path, glob->some_read)) && got != '/') {
		glob->at = glob->some;
		glob->read = ++glob->some_read;
	} else if (glob->any && letter(glob->path, glob->any_read)) {
		glob->at = glob->any;
		glob->read = ++glob->any_read;
		glob->some = 0;
	} else {
		return 1;
	}
	return 0;
}

/* A pattern without a star or question mark covers everything below it, too. */
static __always_inline bool path_matches(const struct spelling *path)
{
	struct glob glob = {.path = path};
	__u32 key = 0, zero;

	glob.want = bpf_map_lookup_elem(&pattern, &key);
	if (!path || !glob.want)
		return false;
	zero = glob.want->zero;
	glob.read = glob.at = glob.some = glob.some_read = glob.any = glob.any_read = glob.matches = zero;
	bpf_loop(GLOB_STEPS, glob_step, &glob, 0);
	return glob.matches;
}
