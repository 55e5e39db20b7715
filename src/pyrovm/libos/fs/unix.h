/* AF_UNIX sockets, as their parts share them. */
#ifndef PYROVM_LIBOS_FS_UNIX_H
#define PYROVM_LIBOS_FS_UNIX_H

#include <linux/un.h>

#include "../socket.h"
#include "fs.h"

#define UNIX_ADDRESS_MAX (sizeof(struct sockaddr_un) + 1)
#define UNIX_QUEUE_MAX 212992 /* bytes that wait in one socket: SO_RCVBUF */
#define UNIX_PACKETS_MAX 256 /* datagrams that wait in one socket */
#define UNIX_RIGHTS_MAX 253 /* descriptors in one message: SCM_MAX_FD */

struct unix_packet {
	struct list link;
	struct file **rights; /* SCM_RIGHTS, each with a reference */
	u32 right_count;
	u32 address_length; /* of who sent it */
	u8 address[UNIX_ADDRESS_MAX];
	size_t length, start; /* bytes, and how many of them are gone */
	u8 bytes[];
};

struct unix_socket {
	struct socket socket; /* first: socket_of() */
	struct list all;
	struct waitq waiters;
	struct list packets; /* to be received */
	size_t queued; /* bytes in them */
	u32 packet_count;
	struct unix_socket *peer; /* who receives what is sent; NULL when it is gone */
	bool is_connected, is_listening;
	bool no_more_in, no_more_out; /* shutdown(), here or at the peer */
	bool is_reset; /* the peer went without having read everything */
	struct list pending; /* connections not yet accepted, by the same link */
	u32 pending_count, backlog;
	u8 address[UNIX_ADDRESS_MAX];
	u32 address_length; /* 0: no name */
	struct inode *bound; /* what the name is in the tree; NULL for abstract ones */
};

static inline struct unix_socket *unix_of(struct file *f)
{
	return f->data;
}
bool unix_is_full(const struct unix_socket *s);
/* Tell all that send to s that something has changed. */
void unix_wake_senders(struct unix_socket *s);
void unix_packet_destroy(struct unix_packet *p);

/* unix_name.c */
extern struct list unix_sockets; /* all of them */
long unix_find(const u8 *address, u32 length, struct unix_socket **found);
long unix_bind(struct file *f, const u8 *address, u32 length);
long unix_name(struct file *f, bool of_peer, u8 *address, u32 *length);
long unix_setopt(struct file *f, int level, int name, const void *value, u32 length);
long unix_getopt(struct file *f, int level, int name, void *value, u32 *length);

/* unix_message.c */
long unix_send(struct file *f, struct message *m);
long unix_receive(struct file *f, struct message *m);
long unix_read(struct file *f, struct io *io, u64 *position);
long unix_write(struct file *f, struct io *io, u64 *position);

#endif
