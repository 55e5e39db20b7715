/* What AF_NETLINK tells of network interfaces; only loopback is the same everywhere. */
#include "case.h"
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>

static struct {
	struct nlmsghdr header;
	struct ifinfomsg link;
} request = { { .nlmsg_len = sizeof(request), .nlmsg_type = RTM_GETLINK }, { 0 } };

/* The kind of the answer, and of an error its number. */
static void answer(const char *name, int fd)
{
	char bytes[8192];
	struct nlmsghdr *h = (void *)bytes;
	ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (n < 0)
		TEXT(name, "%s", error_text(errno));
	else if (h->nlmsg_type == NLMSG_ERROR)
		TEXT(name, "%s", error_text(-((struct nlmsgerr *)NLMSG_DATA(h))->error));
	else
		TEXT(name, "type %d, sequence %d, multi %d, to me %d", h->nlmsg_type, h->nlmsg_seq,
		     h->nlmsg_flags & NLM_F_MULTI, h->nlmsg_pid != 0);
}

static void show_loopback(void)
{
	struct ifaddrs *all, *one;
	char text[INET6_ADDRSTRLEN];

	CALL("getifaddrs", getifaddrs(&all));
	for (one = all; one; one = one->ifa_next) {
		struct sockaddr *a = one->ifa_addr, *m = one->ifa_netmask;

		if (!a || a->sa_family != AF_INET || strcmp(one->ifa_name, "lo"))
			continue;
		TEXT("address", "%s", inet_ntop(AF_INET, &((struct sockaddr_in *)a)->sin_addr, text, sizeof(text)));
		TEXT("mask", "%s", inet_ntop(AF_INET, &((struct sockaddr_in *)m)->sin_addr, text, sizeof(text)));
		HOLDS("up", one->ifa_flags & IFF_UP && one->ifa_flags & IFF_LOOPBACK);
	}
	freeifaddrs(all);
}

int main(void)
{
	struct sockaddr_nl address = { AF_NETLINK };
	socklen_t length = sizeof(address);
	struct addrinfo hints = { .ai_flags = AI_ADDRCONFIG, .ai_socktype = SOCK_STREAM }, *found = NULL;
	struct if_nameindex *names;
	char name[IF_NAMESIZE];
	int fd, n = 0, loopback = 0;

	show_loopback();
	names = if_nameindex();
	HOLDS("if_nameindex", names);
	for (; names && names[n].if_index; n++)
		loopback += !strcmp(names[n].if_name, "lo");
	CALL("lo is among them", loopback);
	HOLDS("if_nametoindex", if_nametoindex("lo") == 1);
	TEXT("if_indextoname", "%s", if_indextoname(1, name));
	CALL("of none", if_nametoindex("none0"));
	CALL("getaddrinfo", getaddrinfo("127.0.0.1", "80", &hints, &found));

	KEEP("socket", fd, socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
	CALL("stream", socket(AF_NETLINK, SOCK_STREAM, NETLINK_ROUTE));
	CALL("nothing yet", poll(&(struct pollfd){ fd, POLLIN }, 1, 0));
	CALL("bind", bind(fd, (struct sockaddr *)&address, sizeof(address)));
	CALL("name", getsockname(fd, (struct sockaddr *)&address, &length));
	TEXT("is", "%d, length %d, port %d", address.nl_family, (int)length, address.nl_pid != 0);
	request.link.ifi_index = 1;
	request.header.nlmsg_flags = NLM_F_REQUEST;
	request.header.nlmsg_seq = 5;
	CALL("ask for a link", send(fd, &request, sizeof(request), 0));
	CALL("there is an answer", poll(&(struct pollfd){ fd, POLLIN }, 1, 1000));
	CALL("look at it", recv(fd, name, 1, MSG_PEEK | MSG_DONTWAIT));
	answer("a link", fd);
	answer("only one", fd);
	request.link.ifi_index = 12345;
	send(fd, &request, sizeof(request), 0);
	answer("no such link", fd);
	request.header.nlmsg_flags |= NLM_F_DUMP;
	request.header.nlmsg_seq = 6;
	send(fd, &request, sizeof(request), 0);
	answer("first of all", fd);
	CALL("close", close(fd));
	return 0;
}
