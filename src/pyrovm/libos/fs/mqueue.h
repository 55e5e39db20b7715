/* POSIX message queues: mq_overview(7). */
#ifndef PYROVM_LIBOS_FS_MQUEUE_H
#define PYROVM_LIBOS_FS_MQUEUE_H

#include <linux/mqueue.h>

#include "fs.h"

#define MESSAGES_MAX 65536 /* as Linux has them for root */
#define MESSAGE_BYTES_MAX (16L << 20)
#define PRIORITIES 32768

struct queued_message {
	struct list link;
	u32 priority;
	size_t length;
	u8 bytes[];
};

struct message_queue {
	struct list all; /* alone: it has no name any more */
	struct inode *inode; /* holds a reference while there is a name */
	char name[NAME_MAX_LENGTH + 1];
	long messages_max, bytes_max, count;
	u64 reserved; /* of RLIMIT_MSGQUEUE */
	struct list messages; /* highest priority first, then the oldest */
	struct waitq senders, receivers, pollers;
	unsigned receiving; /* threads that wait for a message: nobody else is told of it */
	/* mq_notify(2): SIGEV_NONE, SIGEV_SIGNAL, SIGEV_THREAD; -1: nobody wants to know. */
	int notify, signal;
	u64 value;
	struct file *notify_socket; /* SIGEV_THREAD: libc's, which gets the cookie */
	u8 cookie[NOTIFY_COOKIE_LEN];
};

struct message_queue *queue_of(const struct file *f); /* NULL: it is none */
/* Open a queue, perhaps a new one: of these attributes, or NULL for the usual. */
long queue_open(const char *name, u32 flags, u32 mode, const struct mq_attr *a, struct file **f);
long queue_unlink(const char *name);
long queue_set_notification(struct message_queue *q, const sigevent_t *event); /* NULL: none */
void queue_notify(struct message_queue *q); /* a message has come into an empty queue */

#endif
