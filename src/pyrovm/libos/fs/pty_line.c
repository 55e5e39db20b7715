/* The line discipline of pseudo terminals: editing, echo, signals, ends of lines (termios(3)). */
#include "../calls.h"
#include "pty.h"

static bool has(const struct pty *p, u32 flag)
{
	return p->settings.c_lflag & flag;
}

/* Whether c is the special character number n; 0 is none. */
static bool is(const struct pty *p, u8 c, unsigned n)
{
	return c && p->settings.c_cc[n] == c;
}

static void put_output(struct pty *p, u8 c)
{
	if (p->output_used == OUTPUT_MAX)
		return; /* echo that nobody reads is lost */
	p->output[(p->output_start + p->output_used++) % OUTPUT_MAX] = c;
}

/* One character as it is written, if there is room for it. */
static bool print_one(struct pty *p, u8 c)
{
	u32 flags = p->settings.c_oflag;

	if (p->output_used + 2 > OUTPUT_MAX)
		return false;
	if (flags & OPOST && c == '\n' && flags & ONLCR) {
		put_output(p, '\r');
		p->column = 0;
	} else if (flags & OPOST && c == '\r' && flags & OCRNL) {
		c = '\n';
	} else if (flags & OPOST && c == '\r' && flags & ONOCR && !p->column) {
		return true;
	}
	put_output(p, c);
	p->column = c == '\r' ? 0 : p->column + (c >= ' ');
	return true;
}

size_t pty_print(struct pty *p, const u8 *bytes, size_t n)
{
	size_t done = 0;

	while (done < n && print_one(p, bytes[done]))
		done++;
	if (done)
		waitq_wake(&p->master, ~0u);
	return done;
}

static void echo(struct pty *p, u8 c)
{
	if (!has(p, ECHO) && !(c == '\n' && has(p, ECHONL) && has(p, ICANON)))
		return;
	if (has(p, ECHOCTL) && (c < ' ' || c == 127) && c != '\t' && c != '\n') {
		print_one(p, '^');
		print_one(p, c ^ 64);
	} else {
		print_one(p, c);
	}
}

static bool put_input(struct pty *p, u16 c)
{
	if (p->input_used == LINE_MAX)
		return false;
	p->input[(p->input_start + p->input_used++) % LINE_MAX] = c;
	return true;
}

static u16 at_end(const struct pty *p)
{
	return p->input[(p->input_start + p->input_used - 1) % LINE_MAX];
}

static void erase_one(struct pty *p)
{
	u8 c = (u8)at_end(p);
	unsigned width = has(p, ECHOCTL) && (c < ' ' || c == 127) && c != '\t' ? 2 : 1;

	p->input_used--;
	p->line--;
	for (; has(p, ECHO) && has(p, ECHOE) && width; width--) {
		print_one(p, '\b');
		print_one(p, ' ');
		print_one(p, '\b');
	}
}

static void erase_word(struct pty *p)
{
	while (p->line && at_end(p) == ' ')
		erase_one(p);
	while (p->line && at_end(p) != ' ')
		erase_one(p);
}

static void erase_line(struct pty *p, u8 c)
{
	if (has(p, ECHOKE) && has(p, ECHOE)) {
		while (p->line)
			erase_one(p);
		return;
	}
	p->input_used -= p->line;
	p->line = 0;
	echo(p, c);
	if (has(p, ECHOK) && has(p, ECHO))
		print_one(p, '\n');
}

static void end_line(struct pty *p, u16 c)
{
	if (put_input(p, c))
		p->line = 0;
}

/* What is typed becomes a line; true if c was part of that. */
static bool edit(struct pty *p, u8 c)
{
	if (is(p, c, VERASE)) {
		if (p->line)
			erase_one(p);
	} else if (is(p, c, VKILL)) {
		erase_line(p, c);
	} else if (is(p, c, VWERASE) && has(p, IEXTEN)) {
		erase_word(p);
	} else if (is(p, c, VEOF)) {
		end_line(p, IS_END | ENDS_LINE);
	} else if (c == '\n' || is(p, c, VEOL) || is(p, c, VEOL2)) {
		echo(p, c);
		end_line(p, c | ENDS_LINE);
	} else {
		return false;
	}
	return true;
}

/* Ctrl-C and the like; true if c was one. */
static bool raise_signal(struct pty *p, u8 c)
{
	int number = is(p, c, VINTR) ? SIGINT : is(p, c, VQUIT) ? SIGQUIT : is(p, c, VSUSP) ? SIGTSTP : 0;

	if (!number)
		return false;
	if (!has(p, NOFLSH)) {
		p->input_used = p->line = 0;
		p->output_used = 0;
	}
	echo(p, c);
	if (p->is_controlling)
		signal_send(NULL, number, SI_KERNEL, 0, 0);
	return true;
}

bool pty_type(struct pty *p, u8 c)
{
	u32 flags = p->settings.c_iflag;

	if (flags & ISTRIP)
		c &= 0x7f;
	if (c == '\r' && flags & IGNCR)
		return true;
	if (c == '\r' && flags & ICRNL)
		c = '\n';
	else if (c == '\n' && flags & INLCR)
		c = '\r';
	if ((has(p, ISIG) && raise_signal(p, c)) || (has(p, ICANON) && edit(p, c)))
		return true;
	/* the last place is for the end of the line */
	if (p->input_used + has(p, ICANON) >= LINE_MAX)
		return has(p, ICANON);
	echo(p, c);
	put_input(p, c);
	p->line += has(p, ICANON);
	return true;
}

bool pty_is_readable(const struct pty *p)
{
	if (has(p, ICANON))
		return p->input_used > p->line;
	return p->input_used >= MAX(p->settings.c_cc[VMIN], 1U);
}

size_t pty_take(struct pty *p, u8 *to, size_t n, bool *has_ended)
{
	size_t done = 0;

	*has_ended = false;
	while (done < n && p->input_used > p->line) {
		u16 c = p->input[p->input_start];

		p->input_start = (p->input_start + 1) % LINE_MAX;
		p->input_used--;
		if (!(c & IS_END))
			to[done++] = (u8)c;
		if (has(p, ICANON) && c & ENDS_LINE) {
			*has_ended = true;
			break;
		}
	}
	return done;
}

void pty_set(struct pty *p, const struct termios *s)
{
	bool was_lines = has(p, ICANON);

	p->settings = *s;
	if (was_lines && !has(p, ICANON))
		p->line = 0; /* what was typed can be read as it is */
	else if (!was_lines && has(p, ICANON))
		p->line = p->input_used && !(at_end(p) & ENDS_LINE) ? p->input_used : 0;
	waitq_wake(&p->slave, ~0u);
	waitq_wake(&p->master, ~0u);
}
