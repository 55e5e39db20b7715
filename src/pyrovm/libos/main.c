/* The beginning: from what the VMM has prepared to the program's first instruction. */
#include "calls.h"
#include "exec.h"
#include "file.h"
#include "thread.h"

static void set_limits(void)
{
	for (unsigned i = 0; i < RLIM_NLIMITS; i++)
		limits[i] = (struct rlimit64){ RLIM64_INFINITY, RLIM64_INFINITY };
	limits[RLIMIT_NOFILE] = (struct rlimit64){ 1024, 65536 };
	limits[RLIMIT_CORE].rlim_cur = 0;
	limits[RLIMIT_MSGQUEUE] = (struct rlimit64){ 819200, 819200 };
	limits[RLIMIT_NPROC] = (struct rlimit64){ 4096, 4096 };
	limits[RLIMIT_STACK].rlim_cur = boot_info->stack_size;
}

void boot(struct pv_boot *info) __attribute__((noreturn));
void boot(struct pv_boot *info)
{
	struct regs *regs;

	boot_info = info;
	if (info->magic != PV_MAGIC || info->version != PV_VERSION || info->size != sizeof(*info))
		panic("the VMM speaks version %u of the interface, this library OS version %u",
		      info->version, PV_VERSION);
	(void)clock_monotonic(); /* time begins here: what the VMM said it is, it was just now */
	page_init();
	thread_init();
	set_limits();
	fs_init();
	regs = (struct regs *)((char *)current()->stack + THREAD_STACK) - 1;
	current()->regs = regs;
	exec_program(regs);
	enter_program(regs);
}
