/*
 * The tree of files: names (dentries) and what they stand for (inodes).
 *
 * A directory's entries in memory are hashed within it.  What the root image has appears there when
 * it is first looked up; an entry without inode hides one of the image (a whiteout).  Other kinds of
 * directories (/proc, host folders) make entries for each look-up, which nothing keeps.
 */
#ifndef PYROVM_LIBOS_FS_H
#define PYROVM_LIBOS_FS_H

#include <linux/fs.h>
#undef BLOCK_SIZE

#include "../file.h"

#define NAME_MAX_LENGTH 255
#define PATH_MAX_LENGTH 4096 /* with its NUL */
#define LINKS_MAX 40 /* symbolic links in one path */
#define FILE_SIZE_MAX (1ULL << 47)
#define NS_PER_S 1000000000LL

enum { DEVICE_TREE = 1, DEVICE_PROC, DEVICE_SYS, DEVICE_PIPE, DEVICE_ANON, DEVICE_SHARE }; /* st_dev minor */

/* Where the bytes of an inode of the image are; all of it lies within the image. */
struct image_data {
	u64 plain; /* offset in the image of whole blocks */
	u64 tail; /* offset in the image of what is behind tail_start */
	u64 tail_start; /* in the file; = size where there is no tail */
	u64 size; /* bytes that still show where no page of ram is */
};

/* Pages in memory, sparse: a tree of pages with 512 addresses each. */
struct ram {
	u64 root;
	unsigned height; /* 0: root is the first page itself */
	u64 pages; /* how many are there, for st_blocks */
};

struct directory {
	struct dentry **buckets;
	u32 bucket_count, entry_count; /* entries: whiteouts included */
	u64 last_id;
	struct list order;
	u64 image_nid; /* what the image has in it; 0: nothing */
};

struct inode {
	const struct inode_ops *ops;
	u32 references;
	u32 mode, nlink, uid, gid;
	u32 device;
	u64 number, size, rdev;
	s64 atime, mtime, ctime; /* ns since 1970 */
	struct image_data image;
	struct ram ram;
	u32 seals; /* F_SEAL_* */
	bool may_link; /* O_TMPFILE: linkat() may give it its first name */
	bool is_mapped; /* its pages may be in the program's address space: keep them */
	struct directory *directory;
	char *target; /* of a symbolic link */
	void *data; /* of other kinds */
	struct list same; /* inodes of the image with several names */
	u64 image_nid;
};

struct dentry {
	struct dentry *parent; /* holds a reference; the root's is itself */
	struct inode *inode; /* holds a reference; NULL: a whiteout */
	struct dentry *next; /* in its bucket */
	struct list order;
	u64 id; /* in its directory, for readdir to go on */
	u32 references, hash;
	bool is_hashed; /* in its parent, which holds a reference */
	bool from_image; /* is what the image has under this name */
	bool hides_image; /* the image has that name in this directory as well */
	bool is_mount;
	char *name;
	char first_name[]; /* where name points to until it is renamed */
};

/* What to make: a regular file, a directory, a symbolic link (target), or a device node. */
struct new_node {
	u32 mode;
	u64 rdev;
	const char *target;
};

struct attributes { /* only what valid says is changed */
	u32 valid;
	u32 mode, uid, gid;
	s64 atime, mtime;
};
enum { ATTR_MODE = 1, ATTR_UID = 2, ATTR_GID = 4, ATTR_ATIME = 8, ATTR_MTIME = 16 };

/* Directories have lookup to readdir; missing ones that change something fail with EPERM or EROFS. */
struct inode_ops {
	bool is_read_only;
	long (*lookup)(struct dentry *dir, const char *name, struct dentry **found); /* with a reference */
	long (*create)(struct dentry *dir, const char *name, const struct new_node *node,
		       struct dentry **made);
	long (*link)(struct dentry *dir, const char *name, struct dentry *old);
	long (*unlink)(struct dentry *entry, bool is_directory);
	/* existing: what has the new name now, or NULL. */
	long (*rename)(struct dentry *entry, struct dentry *dir, const char *name,
		       struct dentry *existing, u32 flags);
	long (*readdir)(struct file *f, struct dirent_sink *to); /* from f->position on */
	long (*readlink)(struct dentry *entry, char *to, size_t size); /* the length */
	long (*follow)(struct dentry *entry, struct dentry **to); /* magic links of /proc */
	long (*open)(struct file *f); /* sets ops and data */
	struct file *(*reopen)(struct inode *i); /* instead: an open file, with a reference */
	long (*change)(struct dentry *entry, struct inode *i, const struct attributes *a);
	long (*refresh)(struct dentry *entry, struct inode *i, struct file *f); /* attributes as of now */
	long (*truncate)(struct dentry *entry, u64 size); /* where no file is open */
	void (*destroy)(struct inode *i);
};

/* inode.c */
struct inode *inode_create(const struct inode_ops *ops, u32 mode, u32 device);
void inode_get(struct inode *i);
void inode_put(struct inode *i);
u64 inode_next_number(void);
struct dentry *dentry_create(struct dentry *parent, const char *name, struct inode *i); /* takes i */
void dentry_get(struct dentry *d);
void dentry_put(struct dentry *d); /* NULL is allowed */
size_t dentry_path(struct dentry *d, char *to, size_t size); /* its length; cut to size */
s64 now_ns(void);

/* directory.c: entries in memory */
struct directory *directory_create(void);
void directory_destroy(struct directory *d); /* with nothing in it */
void directory_purge(struct directory *d); /* of its whiteouts */
struct dentry *directory_find(struct directory *d, const char *name);
long directory_reserve(struct directory *d); /* the next insertion will not fail */
long directory_insert(struct directory *d, struct dentry *entry); /* the directory's reference */
void directory_remove(struct directory *d, struct dentry *entry);
u32 name_hash(const char *name);

/* erofs.c: the root image */
long erofs_init(const u8 *image, u64 size);
struct erofs_node {
	u64 size, rdev;
	u32 mode, nlink, uid, gid;
	s64 mtime;
	struct image_data data;
};
long erofs_load(u64 nid, struct erofs_node *node);
long erofs_lookup(u64 directory, const char *name, u64 *nid);
/* The entry at *position, which goes on; 1, or 0 at the end. */
long erofs_entry(u64 directory, u64 *position, char name[NAME_MAX_LENGTH + 1], u64 *nid, u8 *type);
u64 erofs_root(void);
void erofs_read(const struct image_data *d, void *to, size_t n, u64 offset);
/* The address of a page of the file in the image, or NULL if it is not a page there. */
const u8 *erofs_page(const struct image_data *d, u64 offset);
u64 erofs_size(void); /* bytes of the image */
extern const char *erofs_problem; /* what is wrong with the image, after an error */

/* ram.c */
u8 *ram_page(struct ram *r, u64 index); /* NULL: a hole */
u64 *ram_slot(struct ram *r, u64 index); /* where its address is; made; NULL without memory */
void ram_cut(struct ram *r, u64 first, u64 end, bool keep); /* free, or (keep) clear, pages */
extern u64 ram_page_count; /* of all files */

/* regular.c: regular files of the tree */
extern const struct file_ops regular_ops;
long regular_truncate(struct inode *i, u64 size);
long regular_allocate(struct inode *i, int mode, u64 offset, u64 length);

/* tree.c: the writable tree over the root image */
extern const struct inode_ops tree_ops;
extern struct dentry *root;
long tree_init(void);
struct inode *tree_inode(u32 mode);
/* Make a directory or a device at init; what is there stays. */
struct dentry *tree_make(const char *path, u32 mode, u64 rdev, const char *target);

long tree_readdir(struct file *f, struct dirent_sink *to); /* readdir.c */

/* path.c */
enum {
	WALK_FOLLOW = 1, /* a symbolic link at the end */
	WALK_PARENT = 2, /* to what the last name is in; the name is in last */
	WALK_CREATE = 4, /* to the parent of what is not there (missing) */
	WALK_EMPTY = 8, /* "" is where it starts (AT_EMPTY_PATH) */
};
struct walk {
	struct dentry *at; /* the result, with a reference; NULL after an error */
	struct dentry *top; /* / */
	unsigned links;
	u32 resolve; /* RESOLVE_* */
	bool missing;
	bool wants_directory; /* a slash at the end */
	char last[NAME_MAX_LENGTH + 1];
};
long walk_path(struct walk *w, int directory, const char *path, u32 flags);
long walk_resolved(struct walk *w, int directory, const char *path, u32 flags, u32 resolve);
/* The same with a path of the program's. */
long walk_user(struct walk *w, int directory, const char *path, u32 flags);
long copy_path(const char *path, char **copy); /* from the program; kfree() it */
void walk_end(struct walk *w);
extern struct dentry *working_directory;
extern u32 umask_bits;

/* open.c */
long open_at(int directory, const char *path, u32 flags, u32 mode, u32 resolve, struct file **f);
long open_entry(struct dentry *entry, u32 flags, struct file **f);

/* calls_open.c */
struct dirent_sink {
	u8 *at, *end;
	bool is_old; /* getdents, not getdents64 */
	bool is_full; /* something did not fit */
	size_t written;
};
/* False: no room. */
bool dirent_put(struct dirent_sink *s, const char *name, u64 number, u64 next, u8 type);
u8 dirent_type(u32 mode);

/* file.c */
extern const struct file_ops path_only_ops; /* O_PATH */
extern const struct file_ops directory_ops;
long file_seek(struct file *f, s64 offset, int whence);
u32 file_poll_always(struct file *f, struct waiter *w, u32 wanted);
struct file *file_anonymous(const struct file_ops *ops, u32 flags, void *data); /* "anon_inode:..." */
long file_install(struct file *f, bool close_on_exec); /* fd_install(), file_put() if it fails */

/* Wait for several files at once. */
struct poll_table {
	struct waitq queue;
	bool woken;
};
struct poll_waiter {
	struct waiter waiter;
	struct poll_table *table;
};
void poll_table_init(struct poll_table *t);
void poll_waiter_init(struct poll_waiter *w, struct poll_table *t);
void poll_waiter_deinit(struct poll_waiter *w);
void poll_add(struct waitq *q, struct waiter *w); /* unless w is NULL */
long poll_sleep(struct poll_table *t, u64 deadline); /* until something was told */

/* fd.c */
long fd_take(int fd, struct file **f); /* with a reference; -EBADF */
long fd_take_io(int fd, struct file **f); /* the same, but not O_PATH */
unsigned fd_count(void); /* one more than the highest ever used */
bool fd_is_close_on_exec(int fd);

/* lock.c */
long file_lock(struct file *f, u32 command, u64 address); /* fcntl's locks; may sleep */
void locks_of_file_end(struct file *f); /* it is going away */
void locks_of_process_end(const struct file *f); /* a descriptor of it is closed */

/* Kinds. */
long device_open(struct file *f); /* dev.c */
void device_init(void);
void proc_init(void); /* proc.c */
/* Put another kind of folder where there is one, or none, in the tree; takes the inode. */
void mount_at(const char *path, struct inode *i);
void console_init(void); /* console.c */
long console_open_terminal(struct file *f); /* /dev/tty */
void shares_init(void); /* share.c */
long branch_open(struct file *f); /* branch.c: /dev/pyrovm */
void epoll_forget(struct file *f); /* epoll.c: it is going away */
bool is_epoll(const struct file *f);
long fd_install_pair(struct file *a, struct file *b, bool close_on_exec, int *to);
long pipe_size(struct file *f, bool set, u64 size); /* F_SETPIPE_SZ, F_GETPIPE_SZ */

#endif
