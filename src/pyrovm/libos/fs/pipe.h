/* Pipes and named pipes: a ring of pages with readers and writers. */
#ifndef PYROVM_LIBOS_FS_PIPE_H
#define PYROVM_LIBOS_FS_PIPE_H

#include "fs.h"

#define PIPE_ATOMIC 4096 /* PIPE_BUF */

struct pipe {
	u64 *pages;
	u64 size; /* bytes: a power of two */
	u64 start, used;
	unsigned readers, writers;
	u64 writers_ever, readers_ever; /* opened so far: open() of a named pipe waits for the next */
	struct waitq reading, writing; /* edges of epoll: each end is told of its own only */
	struct waitq both; /* those that have a named pipe open for both */
};

struct pipe *pipe_create(void);
void pipe_destroy(struct pipe *p);
struct pipe *pipe_of(const struct file *f); /* NULL: it is none */
/* Make f, by its flags, a reader or a writer of p, or both. */
void pipe_attach(struct file *f, struct pipe *p);
static inline u64 pipe_room(const struct pipe *p) { return p->size - p->used; }
/* Bytes from `skip` on, which stay; a piece that lies in one page, of at most *n. */
const u8 *pipe_peek(struct pipe *p, u64 skip, size_t *n);
void pipe_consume(struct pipe *p, size_t n); /* and tell who waits to write */
size_t pipe_push(struct pipe *p, const u8 *from, size_t n); /* at most what there is room for */
long pipe_wait_to_read(struct file *f, bool may_sleep); /* 1: bytes are there, 0: the end, or an error */
long pipe_wait_to_write(struct file *f, bool may_sleep); /* 0: there is room, or an error */

long fifo_open(struct file *f); /* fifo.c: a named pipe of the tree; may sleep */

#endif
