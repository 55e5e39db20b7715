/* The files of /proc and /sys. */
#ifndef PYROVM_LIBOS_FS_PROC_H
#define PYROVM_LIBOS_FS_PROC_H

#include "fs.h"

struct proc_file {
	const char *path; /* below /proc or /sys; "PID" is the process's number */
	u32 mode;
	size_t (*show)(char *to, size_t size); /* the text's length; size - 1 if it is cut */
};
extern const struct proc_file proc_files[], sys_files[]; /* those of one folder stand together */
extern const unsigned proc_file_count, sys_file_count;
extern const struct inode_ops proc_ops;

/* proc_pid.c */
size_t show_exe(char *to, size_t size);
size_t show_cwd(char *to, size_t size);
size_t show_root(char *to, size_t size);
size_t show_maps(char *to, size_t size);
size_t show_status(char *to, size_t size);
size_t show_stat(char *to, size_t size);
size_t show_statm(char *to, size_t size);
size_t show_cmdline(char *to, size_t size);
size_t show_environ(char *to, size_t size);
size_t show_comm(char *to, size_t size);
size_t show_cgroup(char *to, size_t size);
size_t show_limits(char *to, size_t size);
size_t show_mounts(char *to, size_t size);
size_t show_mountinfo(char *to, size_t size);
u64 used_pages(void);

#endif
