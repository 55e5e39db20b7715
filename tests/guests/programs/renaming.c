/* Renaming: over what is there, across folders, exchanging. */
#include "case.h"
#include <sys/stat.h>

int main(void)
{
	struct stat before, after;
	char own[40], text[200];
	long n;
	int fd;

	put_file("a", "text of a");
	put_file("b", "text of b");
	stat("a", &before);
	CALL("rename", rename("a", "c"));
	stat("c", &after);
	HOLDS("same file", before.st_ino == after.st_ino);
	CALL("old name", access("a", F_OK));
	fd = open("b", O_RDONLY);
	CALL("over another", rename("c", "b"));
	TEXT("the new one", "%s", get_file("b"));
	TEXT("the old one, open", "%.*s", (int)read(fd, (char[16]){ 0 }, 16), "text of b");
	fstat(fd, &after);
	CALL("its links", after.st_nlink);
	CALL("to itself", rename("b", "b"));
	CALL("of nothing", rename("none", "x"));
	CALL("into nothing", rename("b", "none/x"));
	CALL("hard links of one file", (link("b", "b2"), rename("b", "b2")));
	CALL("both stay", access("b", F_OK) + access("b2", F_OK));

	mkdir("dir", 0755);
	mkdir("dir/inner", 0755);
	mkdir("empty", 0755);
	CALL("file over folder", rename("b", "dir"));
	CALL("folder over file", rename("dir", "b"));
	CALL("folder over empty folder", rename("dir", "empty"));
	CALL("what was in it", access("empty/inner", F_OK));
	mkdir("dir", 0755);
	CALL("folder over full folder", rename("dir", "empty"));
	CALL("folder into itself", rename("empty", "empty/inner/x"));
	CALL("folder into its child's place", rename("empty/inner", "empty"));
	stat(".", &before);
	CALL("folder with slash", rename("dir/", "moved/"));
	CALL("file with slash", rename("b", "b3/"));
	stat(".", &after);
	HOLDS("links of the parent", before.st_nlink == after.st_nlink);
	CALL("across folders", rename("b", "moved/b"));
	TEXT("there", "%s", get_file("moved/b"));
	CALL("folder across folders", rename("empty", "moved/empty"));
	CALL("its parent", access("moved/empty/../b", F_OK));
	CALL("dot", rename("moved/.", "x"));
	CALL("dot dot", rename("moved/..", "x"));
	CALL("to dot", rename("moved", "."));
	symlink("moved", "link");
	CALL("a link itself", rename("link", "link2"));
	CALL("its target stays", access("moved/b", F_OK));

	put_file("p", "p");
	put_file("q", "q");
	CALL("no replace", renameat2(AT_FDCWD, "p", AT_FDCWD, "q", RENAME_NOREPLACE));
	CALL("no replace, new", renameat2(AT_FDCWD, "p", AT_FDCWD, "r", RENAME_NOREPLACE));
	CALL("exchange", renameat2(AT_FDCWD, "q", AT_FDCWD, "r", RENAME_EXCHANGE));
	CALL("exchange file and folder", renameat2(AT_FDCWD, "r", AT_FDCWD, "moved", RENAME_EXCHANGE));
	CALL("exchange with nothing", renameat2(AT_FDCWD, "r", AT_FDCWD, "none", RENAME_EXCHANGE));
	TEXT("exchanged", "%s", get_file("q"));
	CALL("a folder now", access("r/b", F_OK));
	mkdir("one", 0700);
	mkdir("one/inner", 0700);
	mkdir("two", 0700);
	put_file("two/file", "two's");
	fd = open("two/file", O_RDONLY);
	CALL("across folders", renameat2(AT_FDCWD, "one/inner", AT_FDCWD, "two/file", RENAME_EXCHANGE));
	TEXT("the file", "%s", get_file("one/inner"));
	sprintf(own, "/proc/self/fd/%d", fd);
	n = readlink(own, text, sizeof(text) - 1);
	TEXT("its path", "%.*s", 10, n > 10 ? text + n - 10 : "?");
	close(fd);
	stat("one", &before);
	stat("two", &after);
	TEXT("links", "%ld and %ld", (long)before.st_nlink, (long)after.st_nlink);
	CALL("its parent", access("two/file/../../two", F_OK));
	CALL("within the other", renameat2(AT_FDCWD, "two", AT_FDCWD, "two/file", RENAME_EXCHANGE));
	CALL("the other way round", renameat2(AT_FDCWD, "two/file", AT_FDCWD, "two", RENAME_EXCHANGE));
	CALL("with itself", renameat2(AT_FDCWD, "two", AT_FDCWD, "two", RENAME_EXCHANGE));
	CALL("a file with slash", renameat2(AT_FDCWD, "one/inner", AT_FDCWD, "two/", RENAME_EXCHANGE));
	CALL("for a file with slash", renameat2(AT_FDCWD, "two", AT_FDCWD, "one/inner/", RENAME_EXCHANGE));
	CALL("two folders", renameat2(AT_FDCWD, "one", AT_FDCWD, "two", RENAME_EXCHANGE));
	TEXT("moved", "%s", get_file("two/inner"));
	CALL("remove", unlink("two/inner") + rmdir("two") + rmdir("one/file") + rmdir("one"));
	CALL("flags that exclude each other", renameat2(AT_FDCWD, "q", AT_FDCWD, "r", RENAME_EXCHANGE | RENAME_NOREPLACE));
	CALL("unknown flag", renameat2(AT_FDCWD, "q", AT_FDCWD, "r", 0x100));
	return 0;
}
