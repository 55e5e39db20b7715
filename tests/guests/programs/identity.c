/* Who one is: process, thread, user, session; and limits. */
#include "case.h"
#include <grp.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

static void *other_thread(void *arg)
{
	static long numbers[3];

	numbers[0] = getpid();
	numbers[1] = gettid();
	numbers[2] = prctl(PR_SET_NAME, "other");
	return numbers;
}

int main(void)
{
	struct rlimit limit, old;
	uid_t real, effective, saved;
	gid_t groups[100];
	pthread_t thread;
	long *seen;
	char name[20] = "";
	int fd, status;

	HOLDS("process", getpid() > 0 && getpid() == syscall(SYS_getpid));
	HOLDS("first thread is the process", gettid() == getpid());
	HOLDS("parent", getppid() >= 0 && getppid() != getpid());
	HOLDS("group", getpgrp() >= 0 && getpgid(0) == getpgrp());
	HOLDS("session", getsid(0) >= 0);
	CALL("group of nobody", getpgid(99999999));
	CALL("session of nobody", getsid(99999999));
	prctl(PR_SET_NAME, "a name that is too long");
	prctl(PR_GET_NAME, name);
	TEXT("name", "%s", name);
	pthread_create(&thread, NULL, other_thread, NULL);
	pthread_join(thread, (void **)&seen);
	HOLDS("thread has the process's number", seen[0] == getpid());
	HOLDS("thread has its own", seen[1] != getpid() && seen[1] > 0);
	prctl(PR_GET_NAME, name);
	TEXT("names are the threads'", "%s", name);

	HOLDS("user", getuid() == geteuid() && getgid() == getegid());
	CALL("getresuid", getresuid(&real, &effective, &saved));
	HOLDS("all three", real == getuid() && effective == getuid() && saved == getuid());
	CALL("set to oneself", setuid(getuid()));
	CALL("setresuid of nothing", setresuid(-1, -1, -1));
	CALL("setgid", setgid(getgid()));
	HOLDS("groups", getgroups(100, groups) >= 0);
	CALL("groups to nowhere", getgroups(-1, groups));
	CALL("no child", wait(&status));
	CALL("no such child", waitpid(99999999, &status, 0));
	CALL("waitid", waitid(P_ALL, 0, &(siginfo_t){ 0 }, WEXITED));
	CALL("wait options", waitpid(-1, &status, 0x7777));
	CALL("kill nobody", kill(99999999, 0));
	CALL("kill oneself with nothing", kill(getpid(), 0));
	CALL("no such signal", kill(getpid(), 9999));
	CALL("tgkill of nobody", syscall(SYS_tgkill, getpid(), 99999999, 0));
	CALL("tgkill, negative", syscall(SYS_tgkill, getpid(), -1, 0));

	CALL("limit of files", getrlimit(RLIMIT_NOFILE, &old));
	limit = (struct rlimit){ 20, old.rlim_max };
	CALL("set it", setrlimit(RLIMIT_NOFILE, &limit));
	CALL("is set", (getrlimit(RLIMIT_NOFILE, &limit), limit.rlim_cur));
	for (int i = 0; i < 30; i++)
		fd = open("/dev/null", O_RDONLY);
	TEXT("too many files", "%s", fd < 0 ? error_text(errno) : "ok");
	CALL("dup", dup(0));
	CALL("pipe", pipe((int[2]){ 0 }));
	CALL("dup2 beyond", dup2(0, 20));
	CALL("dup2 below", dup2(0, 19));
	CALL("poll of more", syscall(SYS_poll, NULL, 21, 0));
	setrlimit(RLIMIT_NOFILE, &old);
	CALL("soft above hard", setrlimit(RLIMIT_NOFILE, &(struct rlimit){ old.rlim_max, old.rlim_max - 1 }));
	CALL("no such limit", getrlimit(99, &limit));
	CALL("prlimit", prlimit(0, RLIMIT_CORE, &(struct rlimit){ 0, 0 }, &old));
	CALL("prlimit back", (prlimit(0, RLIMIT_CORE, NULL, &limit), limit.rlim_cur + limit.rlim_max));
	CALL("prlimit of nobody", prlimit(99999999, RLIMIT_CORE, NULL, &limit));
	limit = (struct rlimit){ 1000, 1000 };
	signal(SIGXFSZ, SIG_IGN);
	CALL("largest file", setrlimit(RLIMIT_FSIZE, &limit));
	fd = dup2(open("file", O_RDWR | O_CREAT, 0600), 9);
	CALL("write a part", write(fd, (char[2000]){ 0 }, 2000));
	CALL("write no more", write(fd, "x", 1));
	CALL("truncate above", ftruncate(fd, 2000));
	HOLDS("stack", getrlimit(RLIMIT_STACK, &limit) == 0 && limit.rlim_cur >= 1 << 20);
	return 0;
}
