/* AF_NETLINK within the library OS. */
#ifndef PYROVM_LIBOS_NETLINK_H
#define PYROVM_LIBOS_NETLINK_H

#include <linux/netlink.h>

#include "socket.h"

/* A datagram for the program to receive; -ENOBUFS where too many wait already. */
long netlink_deliver(struct file *f, const void *bytes, size_t n);
bool is_netlink(const struct file *f);
/* Answer one request, checked to be as long as it says, by netlink_deliver(). */
long netlink_answer(struct file *f, u32 port, const struct nlmsghdr *request);

#endif
