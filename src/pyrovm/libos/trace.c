#include "trace.h"

#include "calls.h"

#define UNKNOWN_MAX 512

static u32 unknown[UNKNOWN_MAX];

long syscall_unknown(u64 number)
{
	if (number < UNKNOWN_MAX)
		unknown[number]++;
	return -ENOSYS;
}

void trace_unknown_calls(void)
{
	for (unsigned number = 0; number < UNKNOWN_MAX; number++) {
		const char *name = number < syscall_count ? syscalls[number].name : NULL;

		if (unknown[number])
			log_line("+++ system call %u%s%s%s is not implemented: called %u times", number,
				 name ? " (" : "", name ? name : "", name ? ")" : "", unknown[number]);
	}
}

static size_t put_string(char *to, size_t size, const char *text)
{
	size_t n = format(to, size, "\"");

	for (unsigned i = 0; i < 40; i++) {
		char c;

		if (user_check(text + i, 1, false))
			return n + format(to + n, size - n, "\"?");
		c = text[i];
		if (!c)
			return n + format(to + n, size - n, "\"");
		n += c >= ' ' && c < 127 ? format(to + n, size - n, "%c", c)
					 : format(to + n, size - n, "\\%03o", (u8)c);
	}
	return n + format(to + n, size - n, "\"...");
}

static size_t put_argument(char *to, size_t size, char kind, u64 value)
{
	switch (kind) {
	case 'd':
		return format(to, size, "%d", (int)value);
	case 'u':
		return format(to, size, "%lu", value);
	case 'o':
		return format(to, size, "0%o", (u32)value);
	case 's':
		return value ? put_string(to, size, (const char *)value) : format(to, size, "NULL");
	case 'f':
		return (int)value == AT_FDCWD ? format(to, size, "AT_FDCWD")
					      : format(to, size, "%d", (int)value);
	default:
		return value ? format(to, size, "0x%lx", value) : format(to, size, "0");
	}
}

/* The letters of syscalls[].arguments: d number, u unsigned, o octal, s string, f folder or file, x. */
static size_t describe(char *to, size_t size, u64 number, const u64 *values)
{
	const struct syscall_entry *entry = number < syscall_count ? &syscalls[number] : NULL;
	const char *kinds = entry && entry->name ? entry->arguments : "xxxxxx";
	size_t n = entry && entry->name ? format(to, size, "%s(", entry->name)
					: format(to, size, "syscall_%lu(", number);

	for (unsigned i = 0; kinds[i]; i++) {
		if (i)
			n += format(to + n, size - n, ", ");
		n += put_argument(to + n, size - n, kinds[i], values[i]);
	}
	return n + format(to + n, size - n, ")");
}

long trace_call(struct regs *regs)
{
	u64 number = regs->orig_rax;
	u64 values[] = { regs->rdi, regs->rsi, regs->rdx, regs->r10, regs->r8, regs->r9 };
	char text[400];
	size_t n = describe(text, sizeof(text), number, values);
	long result;

	if (number == __NR_exit_group || number == __NR_exit || number == __NR_rt_sigreturn)
		log_line("[%d] %s = ?", current()->tid, text);
	if (number < syscall_count && syscalls[number].call)
		result = syscalls[number].call(values[0], values[1], values[2], values[3], values[4], values[5]);
	else
		result = syscall_unknown(number);
	if (result < 0 && result > -4096)
		format(text + n, sizeof(text) - n, " = -%ld %s", -result, error_name(-result));
	else
		format(text + n, sizeof(text) - n, result > 0xffff ? " = 0x%lx" : " = %lu", (u64)result);
	log_line("[%d] %s", current()->tid, text);
	return result;
}
