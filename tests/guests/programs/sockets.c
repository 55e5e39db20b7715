/* Sockets of the Internet's families that a program talks to itself by. */
#include "case.h"
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>

static struct sockaddr_in loopback(int port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port),
				     .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

#define ADDRESS(a) (struct sockaddr *)&(a), sizeof(a)

static int port_of(int fd)
{
	struct sockaddr_in a;
	socklen_t n = sizeof(a);

	return getsockname(fd, (struct sockaddr *)&a, &n) ? -1 : ntohs(a.sin_port);
}

static int listener(int *port)
{
	struct sockaddr_in a = loopback(0);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	CALL("bind", bind(fd, ADDRESS(a)));
	CALL("listen", listen(fd, 128));
	*port = port_of(fd);
	HOLDS("a port was chosen", *port > 1023);
	return fd;
}

static int dial(int port)
{
	struct sockaddr_in a = loopback(port);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (connect(fd, ADDRESS(a))) {
		close(fd);
		return -1;
	}
	return fd;
}

static int events_of(int fd)
{
	struct pollfd p = { fd, POLLIN | POLLOUT | POLLRDHUP, 0 };

	poll(&p, 1, 0);
	return p.revents;
}

static void making(void)
{
	int fd, value;
	socklen_t n = sizeof(value);
	struct stat st;

	CALL("no such family", socket(99, SOCK_STREAM, 0));
	CALL("no such type", socket(AF_INET, 15, 0));
	CALL("wrong protocol", socket(AF_INET, SOCK_STREAM, IPPROTO_UDP));
	KEEP("stream", fd, socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
	CALL("is non-blocking", !!(fcntl(fd, F_GETFL) & O_NONBLOCK));
	CALL("is closed on exec", fcntl(fd, F_GETFD));
	CALL("fstat", fstat(fd, &st));
	HOLDS("is a socket", S_ISSOCK(st.st_mode));
	CALL("SO_TYPE", getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &n));
	CALL("is a stream", value == SOCK_STREAM && n == 4);
	CALL("SO_DOMAIN", getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &value, &n));
	CALL("is AF_INET", value == AF_INET);
	CALL("SO_PROTOCOL", getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &value, &n));
	CALL("is TCP", value);
	CALL("read of no connection", read(fd, &value, 1));
	CALL("getpeername", getpeername(fd, (struct sockaddr *)&st, &n));
	CALL("seek", lseek(fd, 0, SEEK_SET));
	CALL("bad address", bind(fd, BAD, 16));
	CALL("short address", bind(fd, (struct sockaddr *)&st, 3));
	CALL("no socket", listen(0, 5));
	CALL("no descriptor", listen(99, 5));
	close(fd);
}

static void options(void)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0), value = 1;
	struct timeval t = { 1, 500000 };
	struct linger l = { 1, 5 };
	socklen_t n = sizeof(value);

	CALL("TCP_NODELAY", setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, 4));
	CALL("SO_KEEPALIVE", setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, 4));
	CALL("SO_REUSEADDR", setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &value, 4));
	CALL("TCP_KEEPIDLE", setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &(int){ 77 }, 4));
	CALL("SO_LINGER", setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l)));
	CALL("SO_RCVTIMEO", setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t)));
	CALL("IP_TOS", setsockopt(fd, IPPROTO_IP, IP_TOS, &(int){ 16 }, 4));
	CALL("unknown level", setsockopt(fd, 12345, 1, &value, 4));
	value = 0;
	CALL("get TCP_NODELAY", getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &n));
	TEXT("value", "%d %u", value, n);
	CALL("get TCP_KEEPIDLE", getsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &value, &n));
	TEXT("value", "%d", value);
	CALL("get SO_REUSEADDR", getsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &value, &n));
	TEXT("value", "%d", value);
	CALL("get IP_TOS", getsockopt(fd, IPPROTO_IP, IP_TOS, &value, &n));
	TEXT("value", "%d", value);
	n = sizeof(l);
	l = (struct linger){ 0 };
	CALL("get SO_LINGER", getsockopt(fd, SOL_SOCKET, SO_LINGER, &l, &n));
	TEXT("value", "%d %d", l.l_onoff, l.l_linger);
	n = sizeof(t);
	t = (struct timeval){ 0 };
	CALL("get SO_RCVTIMEO", getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, &n));
	TEXT("value", "%ld %ld", (long)t.tv_sec, (long)t.tv_usec);
	n = 4;
	CALL("SO_ACCEPTCONN", getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &n));
	TEXT("value", "%d", value);
	close(fd);
}

static void connecting(void)
{
	struct sockaddr_in a;
	socklen_t n = sizeof(a);
	int port, server = listener(&port), client, made, other;
	char text[100];

	CALL("second bind", bind(server, (struct sockaddr *)&(struct sockaddr_in){ AF_INET }, 16));
	other = socket(AF_INET, SOCK_STREAM, 0);
	a = loopback(port);
	CALL("port in use", bind(other, ADDRESS(a)));
	a.sin_addr.s_addr = inet_addr("9.9.9.9");
	CALL("not our address", bind(other, ADDRESS(a)));
	close(other);
	CALL("accept of nothing", (fcntl(server, F_SETFL, O_NONBLOCK), accept(server, NULL, NULL)));
	TEXT("events of a listener", "%x", events_of(server));
	fcntl(server, F_SETFL, 0);
	KEEP("connect", client, dial(port));
	KEEP("accept", made, accept4(server, (struct sockaddr *)&a, &n, SOCK_CLOEXEC));
	HOLDS("from the client", ntohs(a.sin_port) == port_of(client) && n == sizeof(a) &&
				     a.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
	HOLDS("at the server's port", port_of(made) == port);
	CALL("peer of the client", getpeername(client, (struct sockaddr *)&a, &n));
	HOLDS("is the server", ntohs(a.sin_port) == port);
	CALL("connect again", connect(client, ADDRESS(a)));
	TEXT("events of a connection", "%x", events_of(client));
	CALL("send", send(client, "hello", 5, 0));
	CALL("peek", recv(made, text, 3, MSG_PEEK));
	CALL("waits", (ioctl(made, FIONREAD, &port), port));
	TEXT("events with data", "%x", events_of(made));
	CALL("receive", recv(made, text, sizeof(text), 0));
	TEXT("text", "%.5s", text);
	TEXT("events without", "%x", events_of(made));
	CALL("no more", recv(made, text, sizeof(text), MSG_DONTWAIT));
	CALL("writev", write(made, "0123456789", 10));
	CALL("all of it", (write(made, "abc", 3), recv(client, text, 13, MSG_WAITALL)));
	CALL("shutdown", shutdown(client, SHUT_WR));
	CALL("end", read(made, text, 1));
	CALL("and again", read(made, text, 1));
	TEXT("events at the end", "%x", events_of(made));
	CALL("other way", write(made, "still", 5));
	CALL("is heard", read(client, text, 10));
	close(made);
	CALL("end of the other", read(client, text, 1));
	signal(SIGPIPE, SIG_IGN);
	CALL("write to nobody", send(client, "x", 1, 0));
	close(client);
	CALL("nobody listens", (close(server), dial(1)));
}

static void waiting(void)
{
	int port, server = listener(&port), client = dial(port), made = accept(server, NULL, NULL);
	int epoll = epoll_create1(0), n;
	struct epoll_event e = { EPOLLIN | EPOLLRDHUP, { .u32 = 1 } }, got[4];
	struct timeval t = { 0, 30000 };
	char text[10];
	int64_t before;

	CALL("epoll_ctl", epoll_ctl(epoll, EPOLL_CTL_ADD, made, &e));
	CALL("nothing yet", epoll_wait(epoll, got, 4, 0));
	write(client, "ab", 2);
	CALL("one", epoll_wait(epoll, got, 4, 2000));
	TEXT("what", "%x", got[0].events);
	read(made, text, 1);
	CALL("level-triggered", epoll_wait(epoll, got, 4, 0));
	read(made, text, 1);
	CALL("nothing again", epoll_wait(epoll, got, 4, 0));
	e.events |= EPOLLOUT | EPOLLET;
	CALL("edge-triggered", epoll_ctl(epoll, EPOLL_CTL_MOD, made, &e));
	CALL("writable", epoll_wait(epoll, got, 4, 2000));
	TEXT("what", "%x", got[0].events);
	CALL("told once", epoll_wait(epoll, got, 4, 0));
	write(client, "c", 1);
	CALL("an edge", epoll_wait(epoll, got, 4, 2000));
	TEXT("is in", "%x", got[0].events & EPOLLIN);
	CALL("told once", epoll_wait(epoll, got, 4, 0));
	read(made, text, 10);
	setsockopt(made, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
	before = now_ns(CLOCK_MONOTONIC);
	CALL("time-out of recv", recv(made, text, 1, 0));
	HOLDS("took its time", now_ns(CLOCK_MONOTONIC) - before >= 25000000);
	CALL("time-out of read", read(made, text, 1));
	close(client);
	for (n = 0; epoll_wait(epoll, got, 4, 2000) == 1 && !(got[0].events & EPOLLRDHUP) && n < 9; n++)
		;
	HOLDS("hears the end", got[0].events & EPOLLRDHUP);
	close(made);
	close(server);
	close(epoll);
}

static void *echo(void *argument)
{
	static char buffer[65536];
	int server = *(int *)argument, fd = accept(server, NULL, NULL);
	ssize_t n;

	while ((n = read(fd, buffer, sizeof(buffer))) > 0)
		for (ssize_t done = 0, k; done < n; done += k)
			if ((k = write(fd, buffer + done, n - done)) < 0)
				return NULL;
	close(fd);
	return NULL;
}

#define LARGE 3000000

static void *send_all(void *argument)
{
	char *data = malloc(LARGE);
	int fd = *(int *)argument;

	for (int i = 0; i < LARGE; i++)
		data[i] = i * 7 + i / 1000;
	write(fd, data, LARGE);
	shutdown(fd, SHUT_WR);
	free(data);
	return NULL;
}

static void large(void)
{
	int port, server = listener(&port), client;
	pthread_t a, b;
	char *data = malloc(LARGE + 1);
	ssize_t n, got = 0;
	long wrong = 0;

	pthread_create(&a, NULL, echo, &server);
	client = dial(port);
	pthread_create(&b, NULL, send_all, &client);
	while ((n = read(client, data + got, LARGE + 1 - got)) > 0)
		got += n;
	for (int i = 0; i < got; i++)
		wrong += data[i] != (char)(i * 7 + i / 1000);
	TEXT("there and back", "%zd bytes, %ld wrong", got, wrong);
	pthread_join(a, NULL);
	pthread_join(b, NULL);
	close(client);
	close(server);
	free(data);
}

static void many(void)
{
	int port, server = listener(&port), clients[100], made[100], good = 0, value;

	for (int i = 0; i < 100; i++)
		clients[i] = dial(port);
	for (int i = 0; i < 100; i++)
		made[i] = accept(server, NULL, NULL);
	for (int i = 0; i < 100; i++)
		write(clients[i], &i, sizeof(i));
	for (int i = 0; i < 100; i++)
		good += read(made[i], &value, sizeof(value)) == sizeof(value) && value == i;
	CALL("connections", good);
	for (int i = 0; i < 100; i++) {
		close(clients[i]);
		close(made[i]);
	}
	close(server);
}

static void from_file(void)
{
	int port, server = listener(&port), client = dial(port), made = accept(server, NULL, NULL);
	int file = open("/tmp/sent", O_RDWR | O_CREAT | O_TRUNC, 0600);
	char text[100] = "";

	write(file, "from a file", 11);
	CALL("sendfile", sendfile(client, file, &(off_t){ 5 }, 100));
	CALL("received", recv(made, text, sizeof(text), 0));
	TEXT("text", "%s", text);
	unlink("/tmp/sent");
	close(file);
	close(client);
	close(made);
	close(server);
}

static void datagrams(void)
{
	int a = socket(AF_INET, SOCK_DGRAM, 0), b = socket(AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in at = loopback(0), from;
	socklen_t n = sizeof(from);
	char text[100];
	struct iovec pieces[2] = { { text, 2 }, { text + 50, 50 } };
	struct msghdr m = { &from, sizeof(from), pieces, 2, NULL, 0, 0 };
	struct mmsghdr several[3] = { { { NULL, 0, pieces, 2 } }, { { NULL, 0, pieces, 2 } },
				      { { NULL, 0, pieces, 2 } } };

	CALL("bind", bind(a, ADDRESS(at)));
	at = loopback(port_of(a));
	CALL("no destination", send(b, "x", 1, 0));
	CALL("send", sendto(b, "hello", 5, 0, ADDRESS(at)));
	CALL("receive", recvfrom(a, text, sizeof(text), 0, (struct sockaddr *)&from, &n));
	HOLDS("from the sender", ntohs(from.sin_port) == port_of(b));
	CALL("answer", sendto(a, "you too", 7, 0, ADDRESS(from)));
	CALL("cut", recv(b, text, 3, MSG_TRUNC));
	CALL("empty one", sendto(b, NULL, 0, 0, ADDRESS(at)));
	CALL("is received", recv(a, text, 3, 0));
	CALL("connect", connect(b, ADDRESS(at)));
	CALL("send to the peer", send(b, "abcdef", 6, 0));
	CALL("in pieces", recvmsg(a, &m, 0));
	TEXT("text", "%.2s %.4s", text, text + 50);
	TEXT("flags", "%x, address %u", m.msg_flags, m.msg_namelen);
	CALL("too long", send(b, text, 70000, 0));
	CALL("sendmmsg", sendmmsg(b, several, 3, 0));
	CALL("recvmmsg", recvmmsg(a, several, 3, MSG_WAITFORONE, NULL));
	CALL("lengths", several[0].msg_len + several[2].msg_len);
	CALL("nothing", recv(a, text, 1, MSG_DONTWAIT));
	TEXT("events", "%x", events_of(a));
	CALL("dissolved", connect(b, (struct sockaddr *)&(struct sockaddr){ AF_UNSPEC }, 16));
	CALL("no destination any more", send(b, "x", 1, 0));
	CALL("listen", listen(a, 1));
	close(a);
	CALL("to nobody", sendto(b, "x", 1, 0, ADDRESS(at)));
	close(b);
}

static void not_blocking(void)
{
	int port, server = listener(&port), fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), value;
	struct sockaddr_in a = loopback(port);
	struct pollfd p = { fd, POLLOUT, 0 };
	socklen_t n = sizeof(value);
	char *data = calloc(1, 1 << 20);
	long sent = 0, k;

	HOLDS("connect", !connect(fd, ADDRESS(a)) || errno == EINPROGRESS);
	CALL("poll", poll(&p, 1, 2000));
	TEXT("events", "%x", p.revents);
	CALL("SO_ERROR", getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &n));
	TEXT("value", "%d", value);
	while ((k = write(fd, data, 1 << 20)) > 0)
		sent += k;
	TEXT("full", "%s", error_text(errno));
	HOLDS("something was sent", sent > 1000);
	TEXT("events when full", "%x", events_of(fd));
	free(data);
	close(fd);
	close(server);
}

static void family6(void)
{
	struct sockaddr_in6 a = { AF_INET6, 0, 0, IN6ADDR_ANY_INIT };
	struct sockaddr_in b;
	socklen_t n = sizeof(a);
	int server = socket(AF_INET6, SOCK_STREAM, 0), client, made;
	char text[INET6_ADDRSTRLEN];

	CALL("bind", bind(server, ADDRESS(a)));
	CALL("listen", listen(server, 5));
	getsockname(server, (struct sockaddr *)&a, &n);
	b = loopback(ntohs(a.sin6_port));
	client = socket(AF_INET, SOCK_STREAM, 0);
	CALL("from IPv4", connect(client, ADDRESS(b)));
	made = accept(server, (struct sockaddr *)&a, &n);
	TEXT("peer", "%s", inet_ntop(AF_INET6, &a.sin6_addr, text, sizeof(text)));
	close(made);
	close(client);
	getsockname(server, (struct sockaddr *)&a, &n);
	a.sin6_addr = in6addr_loopback;
	client = socket(AF_INET6, SOCK_STREAM, 0);
	CALL("from IPv6", connect(client, ADDRESS(a)));
	made = accept(server, (struct sockaddr *)&a, &n);
	TEXT("peer", "%s", inet_ntop(AF_INET6, &a.sin6_addr, text, sizeof(text)));
	CALL("wrong family", connect(client, ADDRESS(b)));
	close(made);
	close(client);
	close(server);
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	making();
	options();
	connecting();
	waiting();
	large();
	many();
	from_file();
	datagrams();
	not_blocking();
	family6();
	return 0;
}
