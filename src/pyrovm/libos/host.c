/* Calls of the VMM: abi.h. */
#include "os.h"

long host_call_at(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f, u64 address);

struct pv_boot *boot_info;
/* What is handed over by address lies in linear memory, not in our own data. */
static char *text_page;

long host_call(enum pv_call number, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
	return host_call_at(a, b, c, d, e, f, PV_CALL_PAGE + 8 * (u64)number);
}

void host_exit(u32 status)
{
	host_call(PV_EXIT, status, 0, 0, 0, 0, 0);
	__builtin_trap();
}

static char *text_buffer(void)
{
	if (!text_page) {
		u64 gpa = page_alloc();

		text_page = gpa ? phys_to_virt(gpa) : (char *)phys_to_virt(PV_BOOT_GPA) + 2048;
	}
	return text_page;
}

#define TEXT_MAX 1024

long host_write_text(u32 handle, const char *text, size_t n)
{
	char *buffer = text_buffer();
	struct pv_iovec *piece = (struct pv_iovec *)(buffer + TEXT_MAX);

	n = MIN(n, TEXT_MAX);
	memcpy(buffer, text, n);
	*piece = (struct pv_iovec){ virt_to_phys(buffer), n };
	return host_call(PV_WRITE, handle, virt_to_phys(piece), 1, -1, 0, 0);
}

void host_panic(const char *text, size_t n)
{
	char *buffer = text_buffer();

	n = MIN(n, TEXT_MAX);
	memcpy(buffer, text, n);
	host_call(PV_PANIC, virt_to_phys(buffer), n, 0, 0, 0, 0);
	__builtin_trap();
}
