/* Pseudo terminals: lines, editing, echo, raw mode, ends. */
#include "case.h"
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>

static int master, slave;

/* What one end has to be read by now. */
static void show(const char *name, int fd)
{
	char bytes[300];
	ssize_t n;

	sleep_ms(20); /* a kernel's terminals pass bytes on a little later */
	if (poll(&(struct pollfd){ fd, POLLIN }, 1, 0) < 1) {
		TEXT(name, "nothing");
		return;
	}
	n = read(fd, bytes, sizeof(bytes));
	printf("%s: ", name);
	if (n < 0)
		printf("%s", error_text(errno));
	for (ssize_t i = 0; i < n; i++)
		printf(bytes[i] < ' ' || bytes[i] == 127 ? "<%d>" : "%c", bytes[i]);
	putchar('\n');
}

static void type(const char *text)
{
	write(master, text, strlen(text));
}

static void *type_late(void *unused)
{
	sleep_ms(30);
	type("late\n");
	return NULL;
}

static int events(int fd)
{
	struct pollfd p = { fd, POLLIN | POLLOUT };

	sleep_ms(20);
	return poll(&p, 1, 0) > 0 ? p.revents : 0;
}

int main(void)
{
	struct winsize size = { 30, 100 };
	struct termios t, raw;
	struct stat s;
	char path[60], bytes[300];
	pthread_t thread;
	int n;

	KEEP("master", master, posix_openpt(O_RDWR | O_NOCTTY));
	CALL("is a terminal", isatty(master));
	CALL("grantpt", grantpt(master));
	CALL("ptsname", ptsname_r(master, path, sizeof(path)));
	HOLDS("its path", !strncmp(path, "/dev/pts/", 9));
	CALL("locked", open(path, O_RDWR | O_NOCTTY));
	CALL("unlockpt", unlockpt(master));
	CALL("events before", events(master));
	KEEP("slave", slave, open(path, O_RDWR | O_NOCTTY));
	CALL("is one, too", isatty(slave));
	HOLDS("its name", ttyname(slave) && !strcmp(ttyname(slave), path));
	fstat(slave, &s);
	HOLDS("device", S_ISCHR(s.st_mode) && s.st_rdev >> 8 == 136);
	tcgetattr(slave, &t);
	HOLDS("settings", t.c_lflag & ICANON && t.c_lflag & ECHO && t.c_oflag & ONLCR && t.c_cc[VINTR] == 3);
	t.c_iflag = ICRNL;
	t.c_lflag = ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN;
	CALL("set", tcsetattr(slave, TCSANOW, &t));
	CALL("size", ioctl(master, TIOCSWINSZ, &size));
	CALL("asked", ioctl(slave, TIOCGWINSZ, &size));
	TEXT("is", "%d by %d", size.ws_row, size.ws_col);

	CALL("print", write(slave, "two\nlines\n", 10));
	show("with returns", master);
	CALL("nothing to read", events(slave));
	type("half a l");
	CALL("no line yet", events(slave));
	show("echo", master);
	type("ine\nand another\n");
	CALL("waiting", (sleep_ms(20), ioctl(slave, FIONREAD, &n)));
	HOLDS("bytes", n >= 12);
	show("a line", slave);
	show("the next", slave);
	show("echo of both", master);
	type("typo\177\177pe\025again\r");
	show("edited", slave);
	show("echo of that", master);
	type("some words\027gone\n");
	show("a word less", slave);
	type("no newline\004");
	show("by Ctrl-D", slave);
	type("\004");
	CALL("end of file", read(slave, bytes, 10));
	type("a\003b\n");
	show("after Ctrl-C", slave);
	tcflush(master, TCIOFLUSH);
	show("flushed", master);
	type("long line\n");
	sleep_ms(20);
	CALL("a part of it", read(slave, bytes, 4));
	show("its rest", slave);
	pthread_create(&thread, NULL, type_late, NULL);
	CALL("wait for a line", read(slave, bytes, 100));
	pthread_join(thread, NULL);

	raw = t;
	cfmakeraw(&raw);
	CALL("raw", tcsetattr(slave, TCSAFLUSH, &raw));
	tcflush(master, TCIOFLUSH);
	type("k\003\r\n\177");
	show("keys", slave);
	show("without echo", master);
	write(slave, "out\n", 4);
	show("as it is", master);
	raw.c_cc[VMIN] = 3;
	tcsetattr(slave, TCSANOW, &raw);
	type("12");
	CALL("less than wanted", events(slave));
	type("3");
	show("three", slave);
	raw.c_cc[VMIN] = raw.c_cc[VTIME] = 0;
	tcsetattr(slave, TCSANOW, &raw);
	CALL("without waiting", read(slave, bytes, 10));
	tcsetattr(slave, TCSANOW, &t);

	fcntl(master, F_SETFL, O_NONBLOCK);
	CALL("empty", read(master, bytes, 10));
	close(slave);
	CALL("hung up", events(master) & (POLLHUP | POLLIN));
	CALL("read", read(master, bytes, 10));
	KEEP("open again", slave, open(path, O_RDWR | O_NOCTTY));
	CALL("as before", read(master, bytes, 10));
	close(master);
	CALL("no terminal", events(slave) & POLLHUP);
	CALL("end", read(slave, bytes, 10));
	CALL("print to nobody", write(slave, "x", 1));
	CALL("no name", access(path, F_OK));
	return 0;
}
