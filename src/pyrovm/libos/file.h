/* Open files: what a descriptor stands for, whatever is behind it. */
#ifndef PYROVM_LIBOS_FILE_H
#define PYROVM_LIBOS_FILE_H

#include "os.h"

struct inode;
struct file;
struct dirent_sink;

/* A buffer of the program's, in pieces that user_check() has passed.  The pieces are used up. */
struct io {
	struct iovec *pieces;
	unsigned count;
	size_t length; /* bytes in all pieces that are left */
};
void io_init(struct io *io, struct iovec *pieces, unsigned count);
/* user_check() what is left, as it must be done after each sleep; cuts off what is not accessible.
 * -EFAULT if that is everything. */
long io_check(struct io *io, bool write);
/* Copy and go on; how many bytes, at most what is left. */
size_t io_put(struct io *io, const void *from, size_t n); /* to the program */
size_t io_get(struct io *io, void *to, size_t n); /* from the program */
size_t io_clear(struct io *io, size_t n); /* zeros to the program */
/* Up to max physical pieces of what is left, without going on; bytes in *n. */
long io_to_host(struct io *io, bool write, struct pv_iovec *pieces, unsigned max, size_t *n);
void io_advance(struct io *io, size_t n);

/* A missing operation is an error as Linux has it (EINVAL for read and write, ESPIPE for seek ...).
 * read and write: at *position, which they move; NULL for what has no position.  They never sleep:
 * -EAGAIN where there is nothing yet, and the caller waits by file_wait() if the program may wait.
 * What waits for the host arms it in poll (with a waiter, or while others wait) and on EAGAIN. */
struct file_ops {
	const char *kind; /* "pipe", "eventfd": for /proc/self/fd */
	long (*read)(struct file *f, struct io *io, u64 *position);
	long (*write)(struct file *f, struct io *io, u64 *position);
	long (*seek)(struct file *f, s64 offset, int whence);
	/* Which of POLLIN, POLLOUT ... hold; a waiter, if there is one, is told of changes. */
	u32 (*poll)(struct file *f, struct waiter *w, u32 wanted);
	long (*ioctl)(struct file *f, unsigned request, u64 argument);
	long (*readdir)(struct file *f, struct dirent_sink *to);
	long (*truncate)(struct file *f, u64 size);
	long (*sync)(struct file *f);
	/* The physical page that holds the file's bytes from offset on, for all to share; -ENODEV
	 * where files of this kind are not mapped.  write: it will be written through MAP_SHARED. */
	long (*page)(struct file *f, u64 offset, bool write, u64 *gpa);
	void (*release)(struct file *f); /* nobody refers to it any more */
	bool has_position;
	const struct socket_ops *socket; /* of sockets: what else they can do (socket.h) */
};

struct file {
	const struct file_ops *ops;
	struct inode *inode; /* NULL for what has none */
	struct dentry *entry; /* where it was opened; NULL for what has no name */
	void *data; /* the kind's own */
	u64 position;
	u32 flags; /* O_* as opened, without O_CREAT and the like */
	u32 references;
	struct list watches; /* epoll's */
	char *path; /* of file_path() */
	int owner; /* F_SETOWN */
};

struct file *file_create(const struct file_ops *ops, u32 flags, void *data); /* one reference */
void file_get(struct file *f);
void file_put(struct file *f);
/* Sleep until one of these events (POLLIN ...): 0, -ETIMEDOUT, -EINTR; -EAGAIN if f cannot tell. */
long file_wait(struct file *f, u32 events, u64 deadline);
/* As read(2) and write(2), sleeping where the program may; buffers are checked. */
long file_read(struct file *f, struct io *io, u64 *position);
long file_write(struct file *f, struct io *io, u64 *position);

/* Descriptors. */
struct file *fd_get(int fd); /* NULL: none; no reference taken: hold one across a sleep */
long fd_install(struct file *f, int lowest, bool close_on_exec); /* takes the reference; the number */
u32 fd_limit(void); /* RLIMIT_NOFILE: descriptors are below; at most FD_MAX */
#define FD_MAX 65536

/* Read a whole piece of a file into our own memory, for the ELF loader. */
long file_read_at(struct file *f, void *to, size_t n, u64 offset);
/* Open by path, following links, relative to the current folder; NULL and *error. */
struct file *file_open(const char *path, u32 flags, u32 mode, long *error);
const char *file_path(struct file *f); /* "/bin/true", "pipe:[12]"; valid as long as f */
u64 file_size(struct file *f);

/* fs start: the root image, /dev, /proc and the rest; standard input, output, error. */
void fs_init(void);
/* Before the end: what was written to mapped files of the host (fs/share_map.c). */
void share_map_flush_all(void);

#endif
