/* Files: opening, reading, writing, offsets, holes, sizes, copies of descriptors. */
#include "case.h"
#include <sys/stat.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

static long size_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) ? -1 : (long)st.st_size;
}

static void opening(void)
{
	int fd;

	CALL("open of nothing", open("none", O_RDONLY));
	CALL("empty path", open("", O_RDONLY));
	KEEP("create", fd, open("file", O_RDWR | O_CREAT | O_EXCL, 0640));
	CALL("create again", open("file", O_RDWR | O_CREAT | O_EXCL, 0640));
	CALL("write", write(fd, "0123456789", 10));
	close(fd);
	CALL("folder for writing", open(".", O_WRONLY));
	CALL("file as folder", open("file", O_RDONLY | O_DIRECTORY));
	CALL("file as part of path", open("file/x", O_RDONLY));
	CALL("file with slash", open("file/", O_RDONLY));
	CALL("create in no folder", open("no/file", O_WRONLY | O_CREAT, 0600));
	CALL("create of a folder's name", open("new/", O_WRONLY | O_CREAT, 0600));
	KEEP("read only", fd, open("file", O_RDONLY));
	CALL("write to read only", write(fd, "x", 1));
	CALL("truncate read only", ftruncate(fd, 1));
	close(fd);
	KEEP("write only", fd, open("file", O_WRONLY));
	CALL("read from write only", read(fd, (char[1]){ 0 }, 1));
	close(fd);
	KEEP("O_PATH", fd, open("file", O_PATH));
	CALL("read from O_PATH", read(fd, (char[1]){ 0 }, 1));
	CALL("size of O_PATH", size_of(fd));
	close(fd);
	KEEP("truncating", fd, open("file", O_WRONLY | O_TRUNC));
	CALL("size after truncating", size_of(fd));
	close(fd);
	KEEP("nameless", fd, open(".", O_TMPFILE | O_RDWR, 0600));
	CALL("write to nameless", write(fd, "abc", 3));
	CALL("size of nameless", size_of(fd));
	close(fd);
	TEXT("very long name", "%s", (open((char[300]){ [0 ... 298] = 'n' }, O_RDONLY), error_text(errno)));
	static char path[5000] = { [0 ... 4998] = '/' };
	TEXT("very long path", "%s", (open(path, O_RDONLY), error_text(errno)));
}

static void offsets(void)
{
	char text[32] = "";
	int fd = open("offsets", O_RDWR | O_CREAT, 0600), copy;

	CALL("first write", write(fd, "abcdefghij", 10));
	CALL("offset", lseek(fd, 0, SEEK_CUR));
	CALL("from the end", lseek(fd, -3, SEEK_END));
	CALL("read at end", read(fd, text, 10));
	TEXT("read text", "%s", text);
	CALL("read past end", read(fd, text, 10));
	CALL("before start", lseek(fd, -1, SEEK_SET));
	CALL("no such whence", lseek(fd, 0, 99));
	CALL("beyond the end", lseek(fd, 100, SEEK_SET));
	CALL("size is the same", size_of(fd));
	CALL("write beyond", write(fd, "z", 1));
	CALL("size with hole", size_of(fd));
	CALL("pread of hole", pread(fd, text, 4, 50));
	HOLDS("hole is zeros", !text[0] && !text[3]);
	CALL("pwrite", pwrite(fd, "XY", 2, 1));
	CALL("offset untouched", lseek(fd, 0, SEEK_CUR));
	CALL("pread", pread(fd, text, 4, 0));
	TEXT("pread text", "%.4s", text);
	CALL("negative offset", pread(fd, text, 1, -1));
	CALL("data", lseek(fd, 0, SEEK_DATA));
	CALL("hole after the end", lseek(fd, 0, SEEK_HOLE) > 0);
	CALL("data past the end", lseek(fd, 1000, SEEK_DATA));
	CALL("dup", (copy = dup(fd)) >= 0);
	CALL("move the copy", lseek(copy, 5, SEEK_SET));
	CALL("moves the first", lseek(fd, 0, SEEK_CUR));
	CALL("dup2 to itself", dup2(fd, fd) == fd);
	CALL("dup3 to itself", dup3(fd, fd, 0));
	CALL("dup2 to negative", dup2(fd, -1));
	CALL("dup2 of closed", dup2(500, 20));
	CALL("dup2 far up", dup2(fd, 200));
	CALL("dup3 flags", dup3(fd, 201, O_APPEND));
	CALL("dup3", dup3(fd, 201, O_CLOEXEC));
	CALL("its flag", fcntl(201, F_GETFD));
	close(fd);
	close(copy);
	CALL("copies live on", size_of(200));
	CALL("zero bytes", read(200, NULL, 0));
	CALL("close", close(200));
	CALL("close twice", close(200));
}

static void vectors_and_sizes(void)
{
	char a[4] = "", b[8] = "";
	struct iovec two[] = { { a, 3 }, { b, 7 } };
	int fd = open("vectors", O_RDWR | O_CREAT | O_APPEND, 0600);

	CALL("writev", writev(fd, (struct iovec[]){ { "one", 3 }, { NULL, 0 }, { "two", 3 } }, 3));
	CALL("preadv", preadv(fd, two, 2, 0));
	TEXT("vectors", "%.3s %.3s", a, b);
	CALL("preadv2 at offset", preadv2(fd, two, 2, 1, 0));
	CALL("preadv2 flags", preadv2(fd, two, 2, 1, 0x4000));
	CALL("too many vectors", readv(fd, two, 2000));
	CALL("no vectors", readv(fd, two, 0));
	CALL("overlong vector", readv(fd, (struct iovec[]){ { a, -1UL } }, 1));
	lseek(fd, 0, SEEK_SET);
	CALL("append", write(fd, "end", 3));
	CALL("append goes to the end", lseek(fd, 0, SEEK_CUR));
	CALL("pwrite appends too", pwrite(fd, "!", 1, 0));
	TEXT("content", "%s", get_file("vectors"));
	CALL("longer", ftruncate(fd, 10000));
	CALL("its size", size_of(fd));
	CALL("shorter", truncate("vectors", 4));
	CALL("its size now", size_of(fd));
	TEXT("what is left", "%s", get_file("vectors"));
	CALL("negative size", ftruncate(fd, -1));
	CALL("truncate nothing", truncate("none", 1));
	CALL("truncate a folder", truncate(".", 1));
	CALL("allocate", fallocate(fd, 0, 0, 8192));
	CALL("allocated", size_of(fd));
	CALL("keep size", fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 20000));
	CALL("kept", size_of(fd));
	CALL("punch", fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4));
	CALL("punched", (pread(fd, a, 4, 0), a[0] + a[3]));
	CALL("allocate nothing", fallocate(fd, 0, 0, 0));
	CALL("sync", fsync(fd));
	CALL("data sync", fdatasync(fd));
	CALL("advise", posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL));
	CALL("advise nonsense", posix_fadvise(fd, 0, 0, 77));
	CALL("read a folder", read(open(".", O_RDONLY), a, 1));
	CALL("unlink while open", unlink("vectors"));
	CALL("still there", size_of(fd));
	CALL("gone by name", access("vectors", F_OK));
	CALL("/dev/null", write(open("/dev/null", O_WRONLY), "abc", 3));
	CALL("/dev/zero", read(open("/dev/zero", O_RDONLY), b, 8));
	CALL("/dev/full", write(open("/dev/full", O_WRONLY), "abc", 3));
	CALL("/dev/urandom", read(open("/dev/urandom", O_RDONLY), b, 8));
	CALL("/dev/tty-like ioctl", ioctl(fd, 0x5401, b));
}

int main(void)
{
	opening();
	offsets();
	vectors_and_sizes();
	return 0;
}
