/* A program at a terminal that wants each key at once; for tests/kvm/test_terminal.py. */
#include "case.h"
#include <sys/ioctl.h>
#include <termios.h>

int main(void)
{
	struct termios old, raw, now;
	struct winsize size;
	unsigned char key;

	CALL("settings", tcgetattr(0, &old));
	HOLDS("lines", old.c_lflag & ICANON && old.c_lflag & ECHO && old.c_lflag & ISIG);
	CALL("size", ioctl(1, TIOCGWINSZ, &size));
	TEXT("is", "%d by %d", size.ws_row, size.ws_col);
	raw = old;
	cfmakeraw(&raw);
	raw.c_oflag |= OPOST | ONLCR;
	CALL("raw", tcsetattr(0, TCSAFLUSH, &raw));
	tcgetattr(0, &now);
	HOLDS("as set", now.c_lflag == raw.c_lflag && now.c_iflag == raw.c_iflag && now.c_cc[VMIN] == 1);
	CALL("bad how", tcflush(0, 77));
	puts("keys");
	do {
		if (read(0, &key, 1) != 1)
			return 1;
		TEXT("key", "%d", key);
	} while (key != 'q');
	ioctl(1, TIOCGWINSZ, &size);
	TEXT("size", "%d by %d", size.ws_row, size.ws_col);
	return 7; /* without setting it back */
}
