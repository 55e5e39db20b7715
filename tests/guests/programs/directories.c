/* Folders: made, listed, removed, entered. */
#include "case.h"
#include <dirent.h>
#include <sys/stat.h>

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void list(const char *label, const char *path)
{
	char *names[300];
	int n = 0;
	DIR *dir = opendir(path);
	struct dirent *entry;

	if (!dir) {
		TEXT(label, "%s", error_text(errno));
		return;
	}
	while ((entry = readdir(dir)) && n < 300) {
		names[n] = malloc(300);
		sprintf(names[n++], "%s%s", entry->d_name, entry->d_type == DT_DIR ? "/" : entry->d_type == DT_LNK ? "@" : "");
	}
	closedir(dir);
	qsort(names, n, sizeof(char *), by_name);
	printf("%s:", label);
	for (int i = 0; i < n && i < 12; i++)
		printf(" %s", names[i]);
	printf(" (%d)\n", n);
}

int main(void)
{
	char path[4200], small[3];
	int here = open(".", O_RDONLY | O_DIRECTORY), fd;
	struct stat st;
	DIR *dir;
	long at;

	CALL("mkdir", mkdir("a", 0755));
	CALL("mkdir again", mkdir("a", 0755));
	CALL("mkdir in nothing", mkdir("no/a", 0755));
	CALL("mkdir with slash", mkdir("a/b/", 0700));
	CALL("mkdirat", mkdirat(here, "a/c", 0755));
	put_file("a/file", "text");
	CALL("mkdir in a file", mkdir("a/file/x", 0755));
	CALL("mkdir of dot", mkdir(".", 0755));
	CALL("mkdir of empty", mkdir("", 0755));
	CALL("symlink", symlink("b", "a/link"));
	list("list", "a");
	list("list of a link", "a/link");
	list("list of a file", "a/file");
	list("list of nothing", "none");
	stat("a", &st);
	CALL("mode", st.st_mode & 0170777);
	stat("a/b", &st);
	CALL("mode of b", st.st_mode & 0170777);
	CALL("rmdir of full", rmdir("a"));
	CALL("rmdir of file", rmdir("a/file"));
	CALL("rmdir of link", rmdir("a/link"));
	CALL("rmdir of dot", rmdir("a/b/."));
	CALL("rmdir of dot dot", rmdir("a/b/.."));
	CALL("rmdir of nothing", rmdir("none"));
	CALL("unlink of folder", unlink("a/b"));
	CALL("unlinkat", unlinkat(here, "a/c", AT_REMOVEDIR));
	CALL("unlinkat flags", unlinkat(here, "a/b", 0x77));
	CALL("chdir", chdir("a/b"));
	HOLDS("getcwd", getcwd(path, sizeof(path)) && strlen(path) > 4 && !strcmp(path + strlen(path) - 4, "/a/b"));
	TEXT("getcwd in too little", "%s", getcwd(small, 3) ? small : error_text(errno));
	CALL("parent", open("..", O_RDONLY) >= 0);
	CALL("file of parent", access("../file", R_OK));
	CALL("remove where one is", rmdir("../b"));
	TEXT("getcwd of removed", "%s", getcwd(path, sizeof(path)) ? "found" : error_text(errno));
	CALL("create in removed", open("x", O_CREAT | O_WRONLY, 0600));
	CALL("mkdir in removed", mkdir("x", 0700));
	list("list of removed", ".");
	CALL("fchdir", fchdir(here));
	CALL("chdir to file", chdir("a/file"));
	CALL("chdir to nothing", chdir("none"));
	fd = open("a/file", O_RDONLY);
	CALL("fchdir to file", fchdir(fd));
	CALL("openat of a file", openat(fd, "x", O_RDONLY));
	CALL("openat, absolute", openat(fd, "/dev/null", O_RDONLY) >= 0);
	CALL("openat, bad folder", openat(99, "x", O_RDONLY));
	CALL("openat, folder", openat(here, "a/file", O_RDONLY) >= 0);
	CALL("dots and slashes", access("./a/..//a/./file", F_OK));
	CALL("above the root", access("/../../dev/null", F_OK));

	mkdir("many", 0755);
	for (int i = 0; i < 250; i++) {
		sprintf(path, "many/file-with-a-long-name-%d", i);
		put_file(path, "");
	}
	list("many", "many");
	dir = opendir("many");
	for (int i = 0; i < 100; i++)
		readdir(dir);
	at = telldir(dir);
	strcpy(path, readdir(dir)->d_name);
	readdir(dir);
	seekdir(dir, at);
	HOLDS("seekdir", !strcmp(readdir(dir)->d_name, path));
	rewinddir(dir);
	at = 0;
	for (struct dirent *entry; (entry = readdir(dir));)
		if (entry->d_name[0] != '.') {
			sprintf(path, "many/%s", entry->d_name);
			at += unlink(path) == 0;
		}
	CALL("removed while listing", at);
	closedir(dir);
	CALL("rmdir at last", rmdir("many"));
	CALL("getdents in too little", syscall(SYS_getdents64, here, path, 10));
	CALL("getdents of file", syscall(SYS_getdents64, fd, path, 1000));
	CALL("mknod fifo", mknod("fifo", S_IFIFO | 0600, 0));
	CALL("mknod file", mknod("plain", S_IFREG | 0600, 0));
	CALL("mknod of what is there", mknod("plain", S_IFREG | 0600, 0));
	return 0;
}
