// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* Makes system calls fail before they have begun: kprobes that override, or fmod_ret, on the calls
 * themselves. Needs CONFIG_BPF_KPROBE_OVERRIDE or CONFIG_FUNCTION_ERROR_INJECTION. */
#include "call.h"

static __noinline long enter(void)
{
	struct subject of = {.of_user = true};
	struct call_key key;
	struct call *call = wanted(&key, ENTRY);
	struct file *file;

	if (!call)
		return 0;
	if (call->descriptor && (file = file_of(argument(call->descriptor, key.compat))))
		about_file(&of, file);
	if (call->address)
		of.address = (void *)argument(call->address, key.compat);
	if (call->message)
		bpf_probe_read_user(&of.address, key.compat ? 4 : 8,
				    (void *)argument(call->message, key.compat));
	return verdict(&key, call, &of);
}

SEC("kprobe") int chaosd_override(struct pt_regs *ctx)
{
	long error = enter();

	if (error)
		bpf_override_return(ctx, error);
	return 0;
}

/* One for each function, chosen before they are loaded. */
#define SLOT(name)                                             \
	SEC("fmod_ret/__x64_sys_getcpu") long name(__u64 *ctx) \
	{                                                      \
		return enter();                                \
	}

SLOT(chaosd_slot0)
SLOT(chaosd_slot1)
SLOT(chaosd_slot2)
SLOT(chaosd_slot3)
SLOT(chaosd_slot4)
SLOT(chaosd_slot5)
SLOT(chaosd_slot6)
SLOT(chaosd_slot7)

char _license[] SEC("license") = "Dual MIT/GPL";
