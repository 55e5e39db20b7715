/*
 * An HTTP server of one thread: epoll, keep-alive, the same short answer to every request.
 * Argument: the port, on all addresses.  Says "ready" when it listens.
 */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS 64

static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n";

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

/* One whole request at a time, as wrk sends them.  Returns 0 where the connection has ended. */
static int serve(int connection)
{
	char request[4096];
	ssize_t size = read(connection, request, sizeof(request));

	if (size < 4 || memcmp(request + size - 4, "\r\n\r\n", 4))
		return 0;
	return write(connection, answer, sizeof(answer) - 1) == sizeof(answer) - 1;
}

int main(int argc, char **argv)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	struct epoll_event events[EVENTS], event = { .events = EPOLLIN };
	int listener = socket(AF_INET, SOCK_STREAM, 0), poll = epoll_create1(0), one = 1;

	if (argc != 2)
		return 2;
	address.sin_port = htons(atoi(argv[1]));
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 128))
		fail("listen");
	event.data.fd = listener;
	if (epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event))
		fail("epoll_ctl");
	puts("ready");
	fflush(stdout);
	for (;;) {
		int count = epoll_wait(poll, events, EVENTS, -1);

		for (int i = 0; i < count; i++) {
			int fd = events[i].data.fd;

			if (fd != listener) {
				if (!serve(fd))
					close(fd);
				continue;
			}
			event.data.fd = accept(listener, NULL, NULL);
			if (event.data.fd < 0)
				continue;
			setsockopt(event.data.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
			if (epoll_ctl(poll, EPOLL_CTL_ADD, event.data.fd, &event))
				fail("epoll_ctl");
		}
	}
}
