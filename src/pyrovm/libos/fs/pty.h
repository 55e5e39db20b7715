/* Pseudo terminals: pty(7). */
#ifndef PYROVM_LIBOS_FS_PTY_H
#define PYROVM_LIBOS_FS_PTY_H

#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <asm/termios.h>

#include "fs.h"

#define LINE_MAX 4096 /* N_TTY_BUF_SIZE: what the program behind the terminal has not read yet */
#define OUTPUT_MAX 16384 /* what it has written, and nobody has read */

/* Marks of bytes of the input. */
#define ENDS_LINE 0x100
#define IS_END 0x200 /* no byte: the end of the file, or of what was typed so far */

struct pty {
	unsigned number;
	unsigned masters, slaves; /* open files */
	bool was_open, is_locked, is_controlling;
	struct termios settings;
	struct winsize size;
	u16 input[LINE_MAX];
	u32 input_start, input_used;
	u32 line; /* of them: the line that is not complete yet, at the end */
	u8 output[OUTPUT_MAX];
	u32 output_start, output_used;
	u32 column;
	struct waitq master, slave;
	struct dentry *entry; /* /dev/pts/N */
};

/* pty_line.c: the line discipline, as termios(3) has it. */
bool pty_type(struct pty *p, u8 c); /* a byte comes in; false: no room */
size_t pty_print(struct pty *p, const u8 *bytes, size_t n); /* out go as many as there is room for */
/* Bytes for a read of at most n: 0 where there are none; *has_ended: it returns what it has, or 0. */
size_t pty_take(struct pty *p, u8 *to, size_t n, bool *has_ended);
bool pty_is_readable(const struct pty *p);
void pty_set(struct pty *p, const struct termios *s);

/* pty_ioctl.c */
long pty_master_ioctl(struct file *f, unsigned request, u64 argument);
long pty_slave_ioctl(struct file *f, unsigned request, u64 argument);

long pty_open_master(struct file *f); /* /dev/ptmx */
long pty_open_slave(struct file *f, unsigned number); /* /dev/pts/N */

#endif
