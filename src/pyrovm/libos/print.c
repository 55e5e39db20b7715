/* Text: a small printf, lines for the user's log, and the last words. */
#include "os.h"

struct sink {
	char *to;
	size_t size, length; /* length counts what did not fit, too */
};

static void put(struct sink *s, char c)
{
	if (s->length + 1 < s->size)
		s->to[s->length] = c;
	s->length++;
}

static void put_number(struct sink *s, u64 value, unsigned base, bool negative, int width, char fill)
{
	char digits[24];
	int n = 0;

	do {
		digits[n++] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	if (negative && fill == '0')
		put(s, '-');
	for (int i = n + negative; i < width; i++)
		put(s, fill);
	if (negative && fill != '0')
		put(s, '-');
	while (n > 0)
		put(s, digits[--n]);
}

size_t vformat(char *to, size_t size, const char *text, __builtin_va_list args)
{
	struct sink s = { to, size, 0 };

	for (; *text; text++) {
		char fill = ' ';
		int width = 0, precision = -1;
		bool is_long = false, left = false;

		if (*text != '%') {
			put(&s, *text);
			continue;
		}
		text++;
		if (*text == '-')
			left = true, text++;
		if (*text == '0')
			fill = '0', text++;
		for (; *text >= '0' && *text <= '9'; text++)
			width = width * 10 + *text - '0';
		if (*text == '.') {
			text++;
			if (*text == '*')
				precision = __builtin_va_arg(args, int), text++;
		}
		for (; *text == 'l' || *text == 'z'; text++)
			is_long = true;
		switch (*text) {
		case 'd': {
			s64 v = is_long ? __builtin_va_arg(args, s64) : __builtin_va_arg(args, int);

			put_number(&s, v < 0 ? -(u64)v : (u64)v, 10, v < 0, width, fill);
			break;
		}
		case 'u':
		case 'x':
		case 'o': {
			u64 v = is_long ? __builtin_va_arg(args, u64) : __builtin_va_arg(args, u32);

			put_number(&s, v, *text == 'u' ? 10 : *text == 'x' ? 16 : 8, false, width, fill);
			break;
		}
		case 'p':
			put(&s, '0');
			put(&s, 'x');
			put_number(&s, (u64)__builtin_va_arg(args, void *), 16, false, width, '0');
			break;
		case 's': {
			const char *v = __builtin_va_arg(args, const char *);
			int n = 0;

			while ((precision < 0 || n < precision) && v[n])
				n++;
			for (int i = n; !left && i < width; i++)
				put(&s, ' ');
			for (int i = 0; i < n; i++)
				put(&s, v[i]);
			for (int i = n; left && i < width; i++)
				put(&s, ' ');
			break;
		}
		case 'c':
			put(&s, (char)__builtin_va_arg(args, int));
			break;
		default:
			put(&s, *text);
		}
	}
	if (size)
		to[MIN(s.length, size - 1)] = 0;
	return MIN(s.length, size ? size - 1 : 0);
}

size_t format(char *to, size_t size, const char *text, ...)
{
	__builtin_va_list args;
	size_t n;

	__builtin_va_start(args, text);
	n = vformat(to, size, text, args);
	__builtin_va_end(args);
	return n;
}

/* In the library OS's own data, which lies in one piece only page by page: see host_text(). */
static char line[512];

void log_line(const char *text, ...)
{
	__builtin_va_list args;
	size_t n;

	__builtin_va_start(args, text);
	n = vformat(line, sizeof(line) - 1, text, args);
	__builtin_va_end(args);
	line[n++] = '\n';
	host_write_text(PV_LOG, line, n);
}

void panic(const char *text, ...)
{
	__builtin_va_list args;
	size_t n;

	__builtin_va_start(args, text);
	n = vformat(line, sizeof(line), text, args);
	__builtin_va_end(args);
	host_panic(line, n);
}
