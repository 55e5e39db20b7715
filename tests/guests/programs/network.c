/* What a program does with the world: network WHAT [ARGUMENTS ...]; for tests/kvm/test_program_network.py. */
#include "case.h"
#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>

static int connect_to(const char *address, int port, int type)
{
	struct sockaddr_in a = { AF_INET, htons(port), { inet_addr(address) } };
	int fd = socket(AF_INET, type, 0);

	if (connect(fd, (struct sockaddr *)&a, sizeof(a))) {
		printf("connect: %s\n", error_text(errno));
		exit(1);
	}
	return fd;
}

static int bound(int port, int type)
{
	struct sockaddr_in a = { AF_INET, htons(port), { htonl(INADDR_ANY) } };
	int fd = socket(AF_INET, type, 0);

	if (bind(fd, (struct sockaddr *)&a, sizeof(a))) {
		printf("bind: %s\n", error_text(errno));
		exit(1);
	}
	return fd;
}

static void print_peer(int fd)
{
	struct sockaddr_in here, there;
	socklen_t n = sizeof(here);

	getsockname(fd, (struct sockaddr *)&here, &n);
	getpeername(fd, (struct sockaddr *)&there, &n);
	printf("%s:%d ", inet_ntoa(here.sin_addr), ntohs(here.sin_port));
	printf("from %s\n", inet_ntoa(there.sin_addr));
	fflush(stdout);
}

/* Answers `count` connections, each with what came on it until its end. */
static void serve(int port, int count)
{
	static char buffer[1 << 16];
	int server = bound(port, SOCK_STREAM);

	listen(server, 128);
	puts("ready");
	fflush(stdout);
	while (count--) {
		int fd = accept(server, NULL, NULL);
		ssize_t n;

		if (count == 0)
			print_peer(fd);
		while ((n = read(fd, buffer, sizeof(buffer))) > 0)
			for (ssize_t done = 0, k; done < n; done += k)
				if ((k = write(fd, buffer + done, n - done)) < 0)
					exit(1);
		close(fd);
	}
}

static void serve_datagrams(int port, int count)
{
	char text[2000];
	struct sockaddr_in from;
	int fd = bound(port, SOCK_DGRAM);

	puts("ready");
	fflush(stdout);
	while (count--) {
		socklen_t size = sizeof(from);
		ssize_t n = recvfrom(fd, text, sizeof(text), 0, (struct sockaddr *)&from, &size);

		sendto(fd, text, n, 0, (struct sockaddr *)&from, size);
	}
}

/* Sends `size` bytes, and counts what comes back. */
static void talk(const char *address, int port, int type, size_t size)
{
	char *data = malloc(size), *back = malloc(size);
	size_t sent = 0, got = 0;
	int fd = connect_to(address, port, type);
	ssize_t n;

	for (size_t i = 0; i < size; i++)
		data[i] = i * 13 + i / 777;
	while (got < size) {
		size_t piece = size - sent < 65536 ? size - sent : 65536;

		if (sent < size) {
			n = send(fd, data + sent, piece, 0);
			if (n < 0) {
				printf("send: %s\n", error_text(errno));
				return;
			}
			sent += n;
			if (sent == size && type == SOCK_STREAM)
				shutdown(fd, SHUT_WR);
		}
		n = recv(fd, back + got, size - got, sent < size ? MSG_DONTWAIT : 0);
		if (n > 0)
			got += n;
		else if (n == 0 || errno != EAGAIN)
			break;
	}
	printf("%zu bytes, %s\n", got, memcmp(data, back, size) ? "WRONG" : "the same");
	close(fd);
}

static void resolve(const char *name)
{
	struct addrinfo *found, hints = { .ai_socktype = SOCK_STREAM, .ai_family = AF_INET };
	char text[100];
	int error = getaddrinfo(name, NULL, &hints, &found);

	if (error) {
		printf("%s: %s\n", name, gai_strerror(error));
		return;
	}
	getnameinfo(found->ai_addr, found->ai_addrlen, text, sizeof(text), NULL, 0, NI_NUMERICHOST);
	printf("%s: %s\n", name, text);
}

int main(int argc, char **argv)
{
	const char *what = argv[1];

	if (!strcmp(what, "serve"))
		serve(atoi(argv[2]), atoi(argv[3]));
	else if (!strcmp(what, "serve-datagrams"))
		serve_datagrams(atoi(argv[2]), atoi(argv[3]));
	else if (!strcmp(what, "talk"))
		talk(argv[2], atoi(argv[3]), SOCK_STREAM, atol(argv[4]));
	else if (!strcmp(what, "talk-datagrams"))
		talk(argv[2], atoi(argv[3]), SOCK_DGRAM, atol(argv[4]));
	else
		for (int i = 2; i < argc; i++)
			resolve(argv[i]);
	return 0;
}
