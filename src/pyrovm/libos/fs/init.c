/* The start of everything about files. */
#include "../calls.h"
#include "fs.h"

static void enter_first_directory(void)
{
	const char *path = (const char *)phys_to_virt(boot_info->strings_gpa) + boot_info->cwd_offset;
	struct walk w;

	if (!*path || walk_path(&w, AT_FDCWD, path, WALK_FOLLOW))
		return; /* the program starts in / */
	if (S_ISDIR(w.at->inode->mode)) {
		dentry_put(working_directory);
		working_directory = w.at;
		dentry_get(w.at);
	}
	walk_end(&w);
}

void fs_init(void)
{
	long error = tree_init();

	if (error)
		panic("the root image cannot be used: %s", erofs_problem ? erofs_problem : "no memory");
	umask_bits = boot_info->umask & 0777;
	device_init();
	proc_init();
	shares_init();
	console_init();
	enter_first_directory();
}
