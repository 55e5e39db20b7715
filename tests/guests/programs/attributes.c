/* What is known of a file: stat, statx, modes, owners, access, file systems. */
#include "case.h"
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#define MODE(name, path)                                                        \
	do {                                                                    \
		struct stat s_;                                                 \
		if (lstat(path, &s_))                                           \
			TEXT(name, "%s", error_text(errno));                    \
		else                                                            \
			TEXT(name, "%o", s_.st_mode);                           \
	} while (0)

int main(void)
{
	struct stat st, other;
	struct statx sx;
	struct statfs fs;
	int fd, pipes[2];
	char text[16];

	umask(022);
	CALL("old umask", umask(077));
	put_file("private", "x");
	MODE("made with umask 077", "private");
	umask(0);
	close(open("open", O_CREAT | O_WRONLY, 0666));
	MODE("made with umask 0", "open");
	mkdir("sticky", 01777);
	MODE("sticky folder", "sticky");
	CALL("chmod", chmod("private", 0751));
	MODE("after chmod", "private");
	CALL("set-id bits", chmod("private", 06751));
	MODE("with set-id", "private");
	CALL("more bits than there are", chmod("private", 0170644));
	MODE("after that", "private");
	fd = open("private", O_RDWR);
	CALL("fchmod", fchmod(fd, 0600));
	CALL("fchmodat", fchmodat(AT_FDCWD, "private", 0640, 0));
	CALL("chmod nothing", chmod("none", 0600));
	CALL("fchmod of closed", fchmod(99, 0600));
	symlink("private", "link");
	CALL("chmod by link", chmod("link", 0600));
	MODE("link keeps its mode", "link");
	MODE("file has it", "private");
	CALL("chown to oneself", chown("private", getuid(), getgid()));
	CALL("chown nothing at all", chown("private", -1, -1));
	CALL("lchown", lchown("link", getuid(), getgid()));
	CALL("fchownat flags", fchownat(AT_FDCWD, "private", -1, -1, 0x77));
	stat("private", &st);
	HOLDS("owner", st.st_uid == getuid() && st.st_gid == getgid());

	write(fd, "0123456789", 10);
	fstat(fd, &st);
	stat("private", &other);
	HOLDS("stat as fstat", st.st_ino == other.st_ino && st.st_dev == other.st_dev && st.st_size == other.st_size);
	CALL("size", st.st_size);
	CALL("links", st.st_nlink);
	CALL("block size", st.st_blksize);
	CALL("stat of nothing", stat("none", &st));
	CALL("fstatat of a descriptor", fstatat(fd, "", &st, AT_EMPTY_PATH));
	CALL("fstatat of empty", fstatat(AT_FDCWD, "", &st, 0));
	CALL("fstatat flags", fstatat(AT_FDCWD, "private", &st, 0x7));
	CALL("fstat of closed", fstat(99, &st));
	CALL("statx", statx(AT_FDCWD, "private", 0, STATX_BASIC_STATS, &sx));
	HOLDS("statx mask", (sx.stx_mask & STATX_BASIC_STATS) == STATX_BASIC_STATS);
	TEXT("statx fields", "%o %u %llu", sx.stx_mode, sx.stx_nlink, sx.stx_size);
	CALL("statx of a descriptor", statx(fd, "", AT_EMPTY_PATH, STATX_SIZE, &sx));
	CALL("statx mask too large", statx(AT_FDCWD, "private", 0, 0x80000000, &sx));
	CALL("statx flags", statx(AT_FDCWD, "private", 0x77, 0, &sx));
	pipe(pipes);
	fstat(pipes[0], &st);
	TEXT("a pipe", "%o %ld", st.st_mode, (long)st.st_size);
	stat("/dev/null", &st);
	TEXT("/dev/null", "%o %u:%u", st.st_mode & S_IFMT, major(st.st_rdev), minor(st.st_rdev));
	stat("/dev/urandom", &st);
	TEXT("/dev/urandom", "%o %u:%u", st.st_mode & S_IFMT, major(st.st_rdev), minor(st.st_rdev));
	stat("/", &st);
	HOLDS("root is a folder", S_ISDIR(st.st_mode));
	stat("/..", &other);
	HOLDS("root's parent is the root", st.st_ino == other.st_ino);

	CALL("access", access("private", R_OK | W_OK));
	CALL("access of nothing", access("none", F_OK));
	CALL("access, mode", access("private", 0x40));
	CALL("execute without x", access("private", X_OK));
	CALL("execute with x", (chmod("private", 0700), access("private", X_OK)));
	CALL("faccessat of a link", faccessat(AT_FDCWD, "link", R_OK, AT_SYMLINK_NOFOLLOW));
	CALL("faccessat2 flags", syscall(SYS_faccessat2, AT_FDCWD, "private", R_OK, 0x77));
	CALL("statfs", statfs(".", &fs));
	HOLDS("its size", fs.f_blocks >= fs.f_bfree && fs.f_bfree >= fs.f_bavail && fs.f_bsize >= 512);
	CALL("longest name", fs.f_namelen);
	CALL("statfs of nothing", statfs("none", &fs));
	statfs("/proc", &fs);
	TEXT("type of /proc", "%lx", (long)fs.f_type);
	CALL("fstatfs", fstatfs(fd, &fs));
	CALL("no such attribute", getxattr("private", "user.none", text, 16));
	CALL("list of attributes of nothing", listxattr("none", text, 16));
	return 0;
}
