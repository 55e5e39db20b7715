/* The writable tree's own: entries come into folders and leave them. */
#ifndef PYROVM_LIBOS_FS_TREE_H
#define PYROVM_LIBOS_FS_TREE_H

#include "fs.h"

/* Put an entry where there is none, but perhaps a whiteout. */
long tree_place(struct dentry *dir, struct dentry *entry);
/* Take an entry out; a whiteout hides what the image has there. */
long tree_take_out(struct dentry *entry, bool needs_whiteout);
void tree_forget(struct dentry *entry); /* which is out now: one name less */
bool tree_is_empty(struct dentry *dir);
long tree_rename(struct dentry *entry, struct dentry *dir, const char *name, struct dentry *existing,
		 u32 flags);

#endif
