/* What AF_NETLINK tells of interfaces and addresses (rtnetlink(7)): getifaddrs(3), if_nameindex(3),
 * Go's net.Interfaces.  Nothing ever changes, so there is nobody to be told of changes. */
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>

#include "interface.h"
#include "netlink.h"

#define ANSWER_MAX 4096
#define OPER_UP 6 /* IF_OPER_UP */
#define OPER_UNKNOWN 0

/* One datagram in the making. */
struct answer {
	u8 bytes[ANSWER_MAX];
	u32 length;
	struct nlmsghdr *message; /* the last one, still open */
	const struct nlmsghdr *request;
	u32 port;
};

static void *put_bytes(struct answer *a, const void *bytes, u32 n)
{
	u8 *to = a->bytes + a->length;

	memcpy(to, bytes, n);
	a->length += (u32)NLMSG_ALIGN(n); /* the rest is 0 */
	return to;
}

static void start_message(struct answer *a, u16 type, u16 flags)
{
	struct nlmsghdr h = { .nlmsg_type = type, .nlmsg_flags = flags,
			      .nlmsg_seq = a->request->nlmsg_seq, .nlmsg_pid = a->port };

	a->message = put_bytes(a, &h, sizeof(h));
}

static void end_message(struct answer *a)
{
	a->message->nlmsg_len = (u32)(a->bytes + a->length - (u8 *)a->message);
}

static void put_attribute(struct answer *a, u16 type, const void *value, u32 n)
{
	struct rtattr r = { .rta_len = (u16)(sizeof(r) + n), .rta_type = type };

	put_bytes(a, &r, sizeof(r));
	put_bytes(a, value, n);
}

static void put_link(struct answer *a, u32 number, u16 flags)
{
	static const u8 nowhere[6], everybody[6] = { 255, 255, 255, 255, 255, 255 };
	const struct interface *i = &interfaces[number];
	bool is_ether = i->hardware == ARPHRD_ETHER;
	struct ifinfomsg m = { .ifi_type = i->hardware, .ifi_index = (int)number + 1,
			       .ifi_flags = (u32)i->flags | 1U << 16 /* IFF_LOWER_UP */ };
	u32 mtu = (u32)i->mtu, queue = 1000;
	u8 state = is_ether ? OPER_UP : OPER_UNKNOWN;

	start_message(a, RTM_NEWLINK, flags);
	put_bytes(a, &m, sizeof(m));
	put_attribute(a, IFLA_IFNAME, i->name, (u32)strlen(i->name) + 1);
	put_attribute(a, IFLA_TXQLEN, &queue, sizeof(queue));
	put_attribute(a, IFLA_OPERSTATE, &state, sizeof(state));
	put_attribute(a, IFLA_MTU, &mtu, sizeof(mtu));
	put_attribute(a, IFLA_ADDRESS, i->hardware_address, 6);
	put_attribute(a, IFLA_BROADCAST, is_ether ? everybody : nowhere, 6);
	end_message(a);
}

static void put_address4(struct answer *a, u32 number)
{
	const struct interface *i = &interfaces[number];
	u32 address = __builtin_bswap32(i->address), broadcast = __builtin_bswap32(i->broadcast);
	struct ifaddrmsg m = { .ifa_family = AF_INET, .ifa_prefixlen = i->prefix, .ifa_flags = IFA_F_PERMANENT,
			       .ifa_scope = i->broadcast ? RT_SCOPE_UNIVERSE : RT_SCOPE_HOST,
			       .ifa_index = number + 1 };

	start_message(a, RTM_NEWADDR, NLM_F_MULTI);
	put_bytes(a, &m, sizeof(m));
	put_attribute(a, IFA_ADDRESS, &address, sizeof(address));
	put_attribute(a, IFA_LOCAL, &address, sizeof(address));
	if (broadcast)
		put_attribute(a, IFA_BROADCAST, &broadcast, sizeof(broadcast));
	put_attribute(a, IFA_LABEL, i->name, (u32)strlen(i->name) + 1);
	end_message(a);
}

static void put_address6(struct answer *a, u32 number)
{
	const struct interface *i = &interfaces[number];
	struct ifaddrmsg m = { .ifa_family = AF_INET6, .ifa_prefixlen = i->prefix6,
			       .ifa_flags = IFA_F_PERMANENT,
			       .ifa_scope = i->prefix6 == 128 ? RT_SCOPE_HOST : RT_SCOPE_UNIVERSE,
			       .ifa_index = number + 1 };

	start_message(a, RTM_NEWADDR, NLM_F_MULTI);
	put_bytes(a, &m, sizeof(m));
	put_attribute(a, IFA_ADDRESS, i->address6, sizeof(i->address6));
	end_message(a);
}

/* The family that a dump is asked for; older programs send one byte of it only. */
static u8 family_of(const struct nlmsghdr *request)
{
	return request->nlmsg_len > NLMSG_HDRLEN ? *(const u8 *)NLMSG_DATA(request) : AF_UNSPEC;
}

/* The interface that a question names by index or by name; INTERFACES: there is no such one. */
static u32 find_interface(const struct nlmsghdr *request)
{
	const struct ifinfomsg *m = NLMSG_DATA(request);
	u32 at = (u32)NLMSG_LENGTH(sizeof(*m));

	if (request->nlmsg_len < at)
		return INTERFACES;
	if (m->ifi_index > 0)
		return MIN((u32)m->ifi_index - 1, INTERFACES);
	while (at + sizeof(struct rtattr) <= request->nlmsg_len) {
		const struct rtattr *r = (const void *)((const u8 *)request + at);

		if (r->rta_len < sizeof(*r) || r->rta_len > request->nlmsg_len - at)
			break;
		for (u32 i = 0; r->rta_type == IFLA_IFNAME && i < INTERFACES; i++)
			if (!strncmp((const char *)(r + 1), interfaces[i].name, r->rta_len - sizeof(*r)))
				return i;
		at += (u32)RTA_ALIGN(r->rta_len);
	}
	return INTERFACES;
}

static void put_error(struct answer *a, int error)
{
	struct nlmsgerr m = { .error = error, .msg = *a->request };

	start_message(a, NLMSG_ERROR, 0);
	put_bytes(a, &m, sizeof(m));
	end_message(a);
}

static void dump(struct answer *a)
{
	u8 family = family_of(a->request);
	u16 type = a->request->nlmsg_type;

	for (u32 i = 0; i < INTERFACES; i++) {
		if (type == RTM_GETLINK)
			put_link(a, i, NLM_F_MULTI);
		if (type == RTM_GETADDR && (family == AF_UNSPEC || family == AF_INET))
			put_address4(a, i);
	}
	for (u32 i = 0; i < INTERFACES; i++)
		if (type == RTM_GETADDR && (family == AF_UNSPEC || family == AF_INET6))
			put_address6(a, i);
}

long netlink_answer(struct file *f, u32 port, const struct nlmsghdr *request)
{
	u16 type = request->nlmsg_type;
	bool is_dump = (request->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;
	struct answer *a;
	u32 number;
	int none = 0;
	long error = 0;

	if (type < NLMSG_MIN_TYPE)
		return 0;
	a = kalloc(sizeof(*a));
	if (!a)
		return -ENOMEM;
	a->request = request;
	a->port = port;
	if (is_dump && (type - RTM_BASE) % 4 == 2) { /* RTM_GET...: routes, neighbours: there are none */
		dump(a);
		if (a->length)
			error = netlink_deliver(f, a->bytes, a->length);
		memset(a->bytes, 0, a->length);
		a->length = 0;
		start_message(a, NLMSG_DONE, NLM_F_MULTI);
		put_bytes(a, &none, sizeof(none));
		end_message(a);
	} else if (type == RTM_GETLINK) {
		number = find_interface(request);
		if (number < INTERFACES)
			put_link(a, number, 0);
		else
			put_error(a, -ENODEV);
	} else {
		put_error(a, (type - RTM_BASE) % 4 == 2 ? -EOPNOTSUPP : -EPERM);
	}
	if (!error)
		error = netlink_deliver(f, a->bytes, a->length);
	kfree(a);
	return error;
}
