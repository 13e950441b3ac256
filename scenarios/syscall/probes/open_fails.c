#include <linux/fs.h>

KMOD_RET(security_file_open, struct file *file, int refused)
{
	if (refused || file->f_mode & FMODE_NOACCOUNT)
		return refused;
	if (CHAOSD_SAME(file->f_path.dentry->d_name.name, PARAM_NAME) && CHAOSD_STRIKES())
		return -PARAM_ERRNO;
	return 0;
}
