/* Times of files. */
#include "case.h"
#include <sys/stat.h>
#include <sys/time.h>
#include <utime.h>

static void show(const char *name)
{
	struct stat st;

	stat("file", &st);
	TEXT(name, "%ld.%09ld %ld.%09ld", st.st_atim.tv_sec, st.st_atim.tv_nsec, st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
}

static int recent(struct timespec t)
{
	return labs(t.tv_sec - time(NULL)) < 100;
}

int main(void)
{
	struct timespec set[2] = { { 1000000000, 123456789 }, { 1100000000, 987654321 } };
	struct stat st, later;
	int fd;

	put_file("file", "x");
	stat("file", &st);
	HOLDS("new file", recent(st.st_atim) && recent(st.st_mtim) && recent(st.st_ctim));
	CALL("utimensat", utimensat(AT_FDCWD, "file", set, 0));
	show("set");
	stat("file", &st);
	HOLDS("change time is now", recent(st.st_ctim));
	set[0].tv_nsec = UTIME_OMIT;
	set[1].tv_sec = 5;
	set[1].tv_nsec = 6;
	CALL("only one", utimensat(AT_FDCWD, "file", set, 0));
	show("one set");
	set[0].tv_nsec = set[1].tv_nsec = UTIME_OMIT;
	CALL("none of nothing", utimensat(AT_FDCWD, "none", set, 0));
	set[0].tv_nsec = UTIME_NOW;
	CALL("now", utimensat(AT_FDCWD, "file", set, 0));
	stat("file", &st);
	HOLDS("is now", recent(st.st_atim));
	CALL("modified stays", st.st_mtim.tv_sec);
	set[0].tv_nsec = 1000000000;
	CALL("too many nanoseconds", utimensat(AT_FDCWD, "file", set, 0));
	set[0] = (struct timespec){ -100, 5 };
	CALL("before 1970", utimensat(AT_FDCWD, "file", set, 0));
	show("set before 1970");
	fd = open("file", O_RDWR);
	CALL("futimens", futimens(fd, (struct timespec[]){ { 7, 8 }, { 9, 10 } }));
	show("by descriptor");
	CALL("utimes", utimes("file", (struct timeval[]){ { 11, 12 }, { 13, 14 } }));
	show("microseconds");
	CALL("utimes, too many", utimes("file", (struct timeval[]){ { 11, 1000000 }, { 13, 14 } }));
	CALL("utime", utime("file", &(struct utimbuf){ 15, 16 }));
	show("seconds");
	CALL("without times", utimensat(AT_FDCWD, "file", NULL, 0));
	stat("file", &st);
	HOLDS("both now", recent(st.st_atim) && recent(st.st_mtim));
	CALL("flags", utimensat(AT_FDCWD, "file", NULL, 0x77));

	futimens(fd, (struct timespec[]){ { 7, 8 }, { 9, 10 } });
	write(fd, "y", 1);
	stat("file", &st);
	HOLDS("writing modifies", recent(st.st_mtim));
	futimens(fd, (struct timespec[]){ { 7, 8 }, { 9, 10 } });
	chmod("file", 0600);
	stat("file", &st);
	CALL("chmod does not", st.st_mtim.tv_sec);
	ftruncate(fd, 0);
	stat("file", &st);
	HOLDS("truncating modifies", recent(st.st_mtim));
	symlink("file", "link");
	CALL("of a link", utimensat(AT_FDCWD, "link", (struct timespec[]){ { 21, 0 }, { 22, 0 } }, AT_SYMLINK_NOFOLLOW));
	lstat("link", &st);
	CALL("link has it", st.st_mtim.tv_sec);
	mkdir("dir", 0755);
	utimensat(AT_FDCWD, "dir", (struct timespec[]){ { 7, 8 }, { 9, 10 } }, 0);
	put_file("dir/new", "");
	stat("dir", &st);
	HOLDS("a new name modifies the folder", recent(st.st_mtim));
	utimensat(AT_FDCWD, "dir", (struct timespec[]){ { 7, 8 }, { 9, 10 } }, 0);
	unlink("dir/new");
	stat("dir", &st);
	HOLDS("so does a name removed", recent(st.st_mtim));
	stat("dir", &st);
	sleep_ms(20);
	put_file("dir/second", "");
	stat("dir", &later);
	HOLDS("times go on", later.st_mtim.tv_sec > st.st_mtim.tv_sec || later.st_mtim.tv_nsec > st.st_mtim.tv_nsec);
	return 0;
}
