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

/* proc.c: what an inode of /proc stands for. */
struct place { /* what an inode of /proc stands for */
	const char *path; /* below /proc or /sys, "" for the folder itself; part of the table */
	size_t length;
	const struct proc_file *file; /* NULL: a folder */
	int fd; /* of /proc/PID/fd/N and fdinfo/N, else -1 */
};
static inline struct place *place_of(const struct inode *i) { return i->data; }
long proc_make_entry(struct dentry *dir, const char *name, u32 mode, const struct place *what,
		     struct dentry **found);
long proc_number(const char *name); /* -1: it is none */

/* proc_text.c */
extern const struct file_ops proc_text_ops;

/* proc_fd.c */
long proc_lookup_fd(struct dentry *dir, const char *name, u32 mode, struct dentry **found);
void proc_put_fds(struct file *f, struct dirent_sink *to, u32 mode);
size_t proc_show_fdinfo(int fd, char *to, size_t size);
long proc_readlink(struct dentry *entry, char *to, size_t size);
long proc_follow(struct dentry *entry, struct dentry **to);

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
