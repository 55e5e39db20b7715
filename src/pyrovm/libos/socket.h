/* Sockets: the host's, by PV_SOCKET (socket_host.c), and those within the guest (fs/unix.c).
 *
 * The system calls (socket.c, socket_message.c, socket_options.c) are the same for all: they copy and
 * check what the program gave, and sleep where it may.  What a kind of socket does is in its
 * struct socket_ops, to which the file's ops point; f->data begins with struct socket. */
#ifndef PYROVM_LIBOS_SOCKET_H
#define PYROVM_LIBOS_SOCKET_H

#include <linux/in.h>
#include <linux/in6.h>
#include <linux/socket.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <asm/socket.h>

#include "calls.h"
#include "file.h"

/* What libc has in <sys/socket.h>, and the kernel's headers for user space do not. */
#define AF_UNSPEC 0
#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define AF_NETLINK 16
#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define SOCK_RAW 3
#define SOCK_SEQPACKET 5
#define SOCK_MAX 11
#define SOCK_CLOEXEC O_CLOEXEC
#define SOCK_NONBLOCK O_NONBLOCK
#define SHUT_RDWR 2
#define MSG_OOB 0x1
#define MSG_PEEK 0x2
#define MSG_CTRUNC 0x8
#define MSG_TRUNC 0x20
#define MSG_DONTWAIT 0x40
#define MSG_WAITALL 0x100
#define MSG_NOSIGNAL 0x4000
#define MSG_MORE 0x8000
#define MSG_WAITFORONE 0x10000
#define MSG_CMSG_CLOEXEC 0x40000000
#define SOCKET_ADDRESS_MAX 128 /* bytes: struct sockaddr_storage */

struct user_msghdr { /* as programs have it */
	void *name;
	int name_length;
	struct iovec *pieces;
	u64 piece_count;
	void *control;
	u64 control_length;
	u32 flags;
};
struct user_mmsghdr {
	struct user_msghdr header;
	u32 length;
};

/* What every socket has, first. */
struct socket {
	int family, type, protocol;
	u64 receive_timeout, send_timeout; /* SO_RCVTIMEO, SO_SNDTIMEO in ns; FOREVER: none */
};

/* One message on its way; io is the program's and checked. */
struct message {
	struct io io;
	u8 address[SOCKET_ADDRESS_MAX]; /* to whom; from whom */
	u32 address_length; /* 0: none */
	u32 flags; /* MSG_*; after receive: what the program sees as msg_flags */
	/* Ancillary data of the program, unchecked; after receive control_length is what was written. */
	void *control;
	u64 control_length;
};

/* None of them sleeps: -EAGAIN, and the caller waits by file_wait() if the program may.  Missing ones
 * fail with EOPNOTSUPP.  Addresses are copies, at most SOCKET_ADDRESS_MAX bytes; of out-going ones the
 * length is set. */
struct socket_ops {
	long (*bind)(struct file *f, const u8 *address, u32 length);
	long (*listen)(struct file *f, int backlog);
	/* A new file, not yet installed. */
	long (*accept)(struct file *f, struct file **made, u8 *address, u32 *length);
	/* -EINPROGRESS: called again after POLLOUT, and -EALREADY if it is still not done; -EAGAIN:
	 * the listener's queue is full (AF_UNIX). */
	long (*connect)(struct file *f, const u8 *address, u32 length);
	long (*send)(struct file *f, struct message *m); /* no SIGPIPE: the caller's */
	long (*receive)(struct file *f, struct message *m);
	long (*shutdown)(struct file *f, int how);
	long (*name)(struct file *f, bool of_peer, u8 *address, u32 *length);
	/* Values are copies; getopt: length in and out, at most SOCKET_ADDRESS_MAX. */
	long (*setopt)(struct file *f, int level, int name, const void *value, u32 length);
	long (*getopt)(struct file *f, int level, int name, void *value, u32 *length);
};

void socket_init(struct socket *s, int family, int type, int protocol);
static inline struct socket *socket_of(struct file *f)
{
	return f->data;
}
/* A socket by its descriptor, with a reference: 0, -EBADF, -ENOTSOCK. */
long socket_take(int fd, struct file **f);
/* Sleep for events: 0 to try again, or what the call returns (-EAGAIN when the time is up). */
long socket_wait(struct file *f, u32 events, u32 message_flags, u64 deadline);
static inline u64 socket_deadline(u64 timeout)
{
	return timeout == FOREVER ? FOREVER : clock_monotonic() + timeout;
}
/* Put an address where the program wants it: cut to *room, which becomes its whole length. */
long socket_put_address(const u8 *address, u32 length, void *to, int *room);

/* AF_UNIX (fs/unix.c): a new socket.  type and protocol are as given, without flags. */
long unix_create(int type, int protocol, u32 flags, struct file **f);
/* AF_INET, AF_INET6 (socket_host.c). */
long host_socket_create(int family, int type, int protocol, u32 flags, struct file **f);
/* AF_NETLINK (socket_netlink.c). */
long netlink_create(int type, int protocol, u32 flags, struct file **f);
long interface_ioctl(unsigned request, u64 argument); /* socket_interface.c */

SYSCALL(socket);
SYSCALL(bind);
SYSCALL(listen);
SYSCALL(accept);
SYSCALL(accept4);
SYSCALL(connect);
SYSCALL(sendto);
SYSCALL(recvfrom);
SYSCALL(sendmsg);
SYSCALL(recvmsg);
SYSCALL(sendmmsg);
SYSCALL(recvmmsg);
SYSCALL(shutdown);
SYSCALL(getsockname);
SYSCALL(getpeername);
SYSCALL(setsockopt);
SYSCALL(getsockopt);

#endif
