/* Folders of the host, as their parts share them. */
#ifndef PYROVM_LIBOS_FS_SHARE_H
#define PYROVM_LIBOS_FS_SHARE_H

#include "fs.h"

struct share_file { /* of an open file or folder */
	u32 handle;
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

#endif
