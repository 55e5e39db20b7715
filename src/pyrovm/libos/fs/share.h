/* Folders of the host, as their parts share them. */
#ifndef PYROVM_LIBOS_FS_SHARE_H
#define PYROVM_LIBOS_FS_SHARE_H

#include "fs.h"

struct share_map;
struct share_file { /* of an open file or folder */
	u32 handle;
	struct share_map *map; /* once it was mapped */
	struct list same_map;
	struct ram sums; /* of the pages that the program may write to, as the host has them */
	u64 lent_end; /* all such pages have numbers below */
};

struct share_request { /* what the host reads and writes: in linear memory */
	struct pv_file_args args;
	struct pv_iovec pieces[PV_IOV_MAX];
	char path[PV_PATH_MAX], path2[PV_PATH_MAX];
};

struct share_request *share_request_create(void); /* kfree() it */
long share_ask(struct share_request *r, enum pv_file_operation operation, u32 handle);
/* A handle, or an error. */
long share_open_host(struct dentry *dir, const char *name, u32 flags, u32 mode);
long share_refresh(struct dentry *entry, struct inode *i, struct file *f);
long share_open(struct file *f); /* share_file.c */

/* share_map.c: mapped files */
long share_page(struct file *f, u64 offset, bool write, u64 *gpa);
long share_map_flush(struct file *f, u64 offset, u64 n); /* what was written to mapped pages there */
void share_map_changed(struct file *f, u64 offset, u64 n); /* the host has other bytes there by now */
void share_map_release(struct share_file *open);

#endif
