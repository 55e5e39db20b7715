/* Links, hard and symbolic. */
#include "case.h"
#include <sys/stat.h>

static long links(const char *path)
{
	struct stat st;

	return lstat(path, &st) ? -1 : (long)st.st_nlink;
}

static const char *target(const char *path)
{
	static char text[256];
	ssize_t n = readlink(path, text, sizeof(text) - 1);

	if (n < 0)
		return error_text(errno);
	text[n] = 0;
	return text;
}

int main(void)
{
	struct stat a, b;
	char text[8] = "";
	int fd;

	put_file("file", "content");
	CALL("link", link("file", "hard"));
	CALL("count", links("file"));
	stat("file", &a);
	stat("hard", &b);
	HOLDS("same file", a.st_ino == b.st_ino && a.st_dev == b.st_dev);
	CALL("link to what is there", link("file", "hard"));
	CALL("link of nothing", link("none", "x"));
	CALL("link of folder", link(".", "x"));
	CALL("unlink", unlink("file"));
	CALL("count after", links("hard"));
	TEXT("content", "%s", get_file("hard"));
	CALL("symlink", symlink("hard", "soft"));
	TEXT("target", "%s", target("soft"));
	CALL("readlink cut", readlink("soft", text, 2));
	CALL("readlink of file", readlink("hard", text, 8));
	CALL("readlink of nothing", readlink("none", text, 8));
	CALL("readlink with no room", readlink("soft", text, 0));
	TEXT("through the link", "%s", get_file("soft"));
	CALL("O_NOFOLLOW", open("soft", O_RDONLY | O_NOFOLLOW));
	CALL("O_EXCL on a link", open("soft", O_WRONLY | O_CREAT | O_EXCL, 0600));
	lstat("soft", &a);
	CALL("lstat mode", a.st_mode);
	CALL("lstat size", a.st_size);
	stat("soft", &a);
	HOLDS("stat follows", S_ISREG(a.st_mode));
	CALL("dangling", symlink("nowhere", "dangling"));
	CALL("open dangling", open("dangling", O_RDONLY));
	CALL("create by dangling", (fd = open("dangling", O_WRONLY | O_CREAT, 0600)) >= 0);
	CALL("created", access("nowhere", F_OK));
	CALL("symlink to what is there", symlink("x", "soft"));
	CALL("empty target", symlink("", "empty"));
	CALL("to itself", symlink("self", "self"));
	CALL("loop", open("self", O_RDONLY));
	CALL("two", (symlink("two", "one"), symlink("one", "two")));
	CALL("loop of two", stat("one", &a));
	CALL("loop with lstat", lstat("one", &a));
	symlink("s0", "unused");
	put_file("s0", "end of the chain");
	for (int i = 1; i <= 41; i++) {
		char from[8], to[8];

		sprintf(from, "s%d", i - 1);
		sprintf(to, "s%d", i);
		symlink(from, to);
	}
	TEXT("chain of 40", "%s", get_file("s40"));
	TEXT("chain of 41", "%s", get_file("s41"));
	mkdir("dir", 0755);
	put_file("dir/inner", "inside");
	symlink("dir", "to-dir");
	TEXT("through a folder's link", "%s", get_file("to-dir/inner"));
	CALL("slash makes it a folder", lstat("to-dir/", &a) || !S_ISDIR(a.st_mode));
	CALL("O_DIRECTORY and O_NOFOLLOW", open("to-dir", O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
	CALL("unlink with slash", unlink("to-dir/"));
	CALL("unlink link", unlink("to-dir"));
	CALL("folder stays", access("dir/inner", F_OK));
	CALL("linkat of a link", linkat(AT_FDCWD, "soft", AT_FDCWD, "soft2", 0));
	TEXT("is a link", "%s", target("soft2"));
	CALL("linkat following", linkat(AT_FDCWD, "soft", AT_FDCWD, "hard2", AT_SYMLINK_FOLLOW));
	TEXT("is a file", "%s", target("hard2"));
	fd = open(".", O_TMPFILE | O_WRONLY, 0600);
	write(fd, "named late", 10);
	char path[64];
	sprintf(path, "/proc/self/fd/%d", fd);
	CALL("name a nameless file", linkat(AT_FDCWD, path, AT_FDCWD, "late", AT_SYMLINK_FOLLOW));
	TEXT("late", "%s", get_file("late"));
	fd = open("soft", O_PATH | O_NOFOLLOW);
	CALL("O_PATH of a link", readlinkat(fd, "", text, 8));
	CALL("linkat flags", linkat(AT_FDCWD, "soft", AT_FDCWD, "x", 0x77));
	CALL("unlink of nothing", unlink("none"));
	CALL("unlink of a file's child", unlink("hard/x"));
	return 0;
}
