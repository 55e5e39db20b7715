/* Named pipes: who waits for whom when they are opened, and what is read when. */
#include "case.h"
#include <poll.h>
#include <pthread.h>
#include <sys/stat.h>

static const char *path = "fifo";
static volatile int alarms;
static void on_alarm(int n) { alarms++; }

static void *open_writer(void *text)
{
	int fd;

	sleep_ms(30);
	fd = open(path, O_WRONLY);
	write(fd, text, strlen(text));
	close(fd);
	return NULL;
}
static void *open_reader(void *unused)
{
	int fd;

	sleep_ms(30);
	fd = open(path, O_RDONLY);
	sleep_ms(30);
	return (void *)(long)fd;
}

static int events(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLOUT };

	return poll(&p, 1, 0) > 0 ? p.revents : 0;
}

int main(void)
{
	char bytes[100];
	int in, out;
	pthread_t thread;
	struct stat s;
	void *got;

	unlink(path);
	CALL("mkfifo", mkfifo(path, 0640));
	CALL("again", mkfifo(path, 0640));
	stat(path, &s);
	TEXT("kind and mode", "%o", s.st_mode);
	CALL("no reader yet", open(path, O_WRONLY | O_NONBLOCK));
	KEEP("reader that does not wait", in, open(path, O_RDONLY | O_NONBLOCK));
	CALL("nobody writes", read(in, bytes, 10));
	CALL("no events", events(in));
	KEEP("writer that does not wait", out, open(path, O_WRONLY | O_NONBLOCK));
	CALL("nothing there", read(in, bytes, 10));
	CALL("write", write(out, "hello", 5));
	CALL("readable", events(in));
	CALL("writable", events(out));
	fstat(in, &s);
	CALL("size", s.st_size);
	close(out);
	CALL("hung up with data", events(in));
	CALL("read", read(in, bytes, 10));
	CALL("hung up", events(in));
	CALL("end", read(in, bytes, 10));
	out = open(path, O_WRONLY);
	CALL("somebody again", events(in));
	write(out, "lost", 4);
	close(out);
	close(in);
	in = open(path, O_RDONLY | O_NONBLOCK);
	CALL("empty when opened again", read(in, bytes, 10));
	close(in);

	pthread_create(&thread, NULL, open_writer, "from a thread");
	KEEP("reader waits for a writer", in, open(path, O_RDONLY));
	CALL("what it wrote", read(in, bytes, sizeof(bytes)));
	CALL("and went", read(in, bytes, sizeof(bytes)));
	pthread_join(thread, NULL);
	close(in);
	pthread_create(&thread, NULL, open_reader, NULL);
	KEEP("writer waits for a reader", out, open(path, O_WRONLY));
	CALL("write to it", write(out, "x", 1));
	pthread_join(thread, &got);
	CALL("it reads", read((int)(long)got, bytes, 10));
	close((int)(long)got);
	signal(SIGPIPE, SIG_IGN);
	CALL("it is gone", write(out, "x", 1));
	close(out);

	KEEP("both ways", in, open(path, O_RDWR));
	CALL("to itself", write(in, "echo", 4));
	CALL("both ready", events(in));
	CALL("from itself", read(in, bytes, 10));
	close(in);
	sigaction(SIGALRM, &(struct sigaction){ .sa_handler = on_alarm }, NULL);
	ualarm(30000, 0);
	CALL("a signal", open(path, O_RDONLY));
	CALL("seek", lseek(in = open(path, O_RDWR), 0, SEEK_SET));
	CALL("truncate by name", truncate(path, 0));
	CALL("as O_PATH", events(open(path, O_PATH)));
	CALL("rename", rename(path, "other"));
	CALL("unlink", unlink("other"));
	CALL("still there", write(in, "x", 1));
	CALL("socket node", mknod("node", S_IFSOCK | 0600, 0));
	CALL("cannot be opened", open("node", O_RDONLY));
	CALL("remove", unlink("node"));
	return 0;
}
