/* Copies within the kernel: sendfile, copy_file_range, memfd. */
#include "case.h"
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

int main(void)
{
	int from, to, p[2], memory;
	off_t at;
	char text[100] = "";
	static char big[200000];

	put_file("from", "0123456789abcdef");
	from = open("from", O_RDONLY);
	to = open("to", O_RDWR | O_CREAT, 0600);
	CALL("sendfile", sendfile(to, from, NULL, 4));
	CALL("moves the offset", lseek(from, 0, SEEK_CUR));
	at = 10;
	CALL("with an offset", sendfile(to, from, &at, 100));
	CALL("which moves", at);
	CALL("the file's does not", lseek(from, 0, SEEK_CUR));
	TEXT("copy", "%s", get_file("to"));
	CALL("at the end", (lseek(from, 0, SEEK_END), sendfile(to, from, NULL, 10)));
	CALL("to what is not for writing", sendfile(from, to, NULL, 1));
	CALL("from closed", sendfile(to, 99, NULL, 1));
	pipe(p);
	at = 0;
	CALL("to a pipe", sendfile(p[1], from, &at, 5));
	CALL("from a pipe", sendfile(to, p[0], NULL, 5) >= 0);
	at = -1;
	CALL("negative offset", sendfile(to, from, &at, 5));

	loff_t a = 2, b = 20;
	CALL("copy_file_range", copy_file_range(from, &a, to, &b, 6, 0));
	TEXT("offsets", "%ld %ld", (long)a, (long)b);
	CALL("read", pread(to, text, 99, 20));
	TEXT("text", "%.6s", text);
	lseek(from, 0, SEEK_SET);
	lseek(to, 0, SEEK_SET);
	CALL("with the files' offsets", copy_file_range(from, NULL, to, NULL, 100, 0));
	CALL("offset", lseek(to, 0, SEEK_CUR));
	a = 0;
	b = 8;
	CALL("within one file", copy_file_range(to, &a, to, &b, 8, 0));
	a = 0;
	b = 4;
	CALL("overlapping", copy_file_range(to, &a, to, &b, 8, 0));
	CALL("flags", copy_file_range(from, NULL, to, NULL, 1, 1));
	CALL("a pipe", copy_file_range(from, &a, p[1], NULL, 1, 0));
	CALL("a folder", copy_file_range(open(".", O_RDONLY), NULL, to, NULL, 1, 0));

	memory = memfd_create("name", MFD_CLOEXEC);
	CALL("memfd", write(memory, big, sizeof(big)));
	for (unsigned i = 0; i < sizeof(big); i++)
		big[i] = (char)(i * 7);
	CALL("rewrite", pwrite(memory, big, sizeof(big), 0));
	at = 0;
	ftruncate(to, 0);
	lseek(to, 0, SEEK_SET);
	CALL("large sendfile", sendfile(to, memory, &at, sizeof(big)));
	static char back[sizeof(big)];
	pread(to, back, sizeof(back), 0);
	HOLDS("same bytes", !memcmp(big, back, sizeof(big)));
	CALL("memfd flags", memfd_create("name", 0x7777));
	CALL("memfd name too long", memfd_create((char[300]){ [0 ... 298] = 'n' }, 0));
	sprintf(text, "/proc/self/fd/%d", memory);
	char target[64] = "";
	readlink(text, target, 63);
	TEXT("its name", "%s", target);
	struct stat st;
	fstat(memory, &st);
	TEXT("its mode", "%o", st.st_mode);
	CALL("opened again", (to = open(text, O_RDONLY)) >= 0);
	CALL("shares bytes", pread(to, back, 100, 0));
	CALL("truncate", ftruncate(memory, 10));
	CALL("seen by the other", lseek(to, 0, SEEK_END));
	return 0;
}
