/* What /proc tells of the process. */
#include "../calls.h"
#include "../thread.h"
#include "../vma.h"
#include "proc.h"

static const char *boot_string(u32 offset)
{
	return (const char *)phys_to_virt(boot_info->strings_gpa) + offset;
}

u64 used_pages(void)
{
	return page_count_total() - page_count_free();
}

size_t show_exe(char *to, size_t size)
{
	return format(to, size, "%s", boot_string(boot_info->exe_offset));
}

size_t show_cwd(char *to, size_t size)
{
	return dentry_path(working_directory, to, size);
}

size_t show_root(char *to, size_t size)
{
	return format(to, size, "/");
}

size_t show_maps(char *to, size_t size)
{
	const struct vma *v;
	size_t n = 0;

	for (unsigned i = 0; (v = vma_number(i)) && n + 1 < size; i++) {
		const char *name = v->file ? file_path(v->file) : v->name ? v->name : "";
		const struct inode *inode = v->file ? v->file->inode : NULL;

		n += format(to + n, size - n, "%08lx-%08lx %c%c%c%c %08lx 00:%02x %lu%s%s\n", v->start,
			    v->end, v->prot & PROT_READ ? 'r' : '-', v->prot & PROT_WRITE ? 'w' : '-',
			    v->prot & PROT_EXEC ? 'x' : '-', v->flags & MAP_SHARED ? 's' : 'p', v->offset,
			    inode ? inode->device : 0, inode ? inode->number : 0UL,
			    *name ? "                   " : "", name);
	}
	return n;
}

static u64 mapped_bytes(void)
{
	const struct vma *v;
	u64 total = 0;

	for (unsigned i = 0; (v = vma_number(i)); i++)
		total += v->end - v->start;
	return total;
}

static const char *base_name(void)
{
	const char *exe = boot_string(boot_info->exe_offset), *slash = strrchr(exe, '/');

	return slash ? slash + 1 : exe;
}

size_t show_comm(char *to, size_t size)
{
	const char *name = current()->name[0] ? current()->name : base_name();

	return format(to, size, "%.*s\n", 15, name);
}

size_t show_status(char *to, size_t size)
{
	u64 virtual_kb = mapped_bytes() >> 10, resident_kb = used_pages() << 2;
	u32 uid = boot_info->uid, gid = boot_info->gid;
	size_t n = format(to, size, "Name:\t");

	n += show_comm(to + n, size - n);
	n += format(to + n, size - n,
		    "Umask:\t%04o\nState:\tR (running)\nTgid:\t%d\nNgid:\t0\nPid:\t%d\nPPid:\t0\nTracerPid:\t0\n"
		    "Uid:\t%u\t%u\t%u\t%u\nGid:\t%u\t%u\t%u\t%u\nFDSize:\t%u\nGroups:\t \n",
		    umask_bits, PROCESS_ID, PROCESS_ID, uid, uid, uid, uid, gid, gid, gid, gid, fd_count());
	n += format(to + n, size - n,
		    "VmPeak:\t%8lu kB\nVmSize:\t%8lu kB\nVmLck:\t       0 kB\nVmHWM:\t%8lu kB\n"
		    "VmRSS:\t%8lu kB\nVmData:\t%8lu kB\nVmStk:\t     132 kB\nVmSwap:\t       0 kB\n"
		    "Threads:\t%u\n",
		    virtual_kb, virtual_kb, resident_kb, resident_kb, virtual_kb, thread_count);
	n += format(to + n, size - n,
		    "SigPnd:\t%016lx\nShdPnd:\t%016lx\nSigBlk:\t%016lx\nCapInh:\t%016lx\nCapPrm:\t%016lx\n"
		    "CapEff:\t%016lx\nNoNewPrivs:\t0\nSeccomp:\t0\nCpus_allowed:\t%x\n"
		    "Cpus_allowed_list:\t0\n",
		    current()->signal_pending, 0UL, current()->signal_mask, 0UL, 0UL, 0UL, 1);
	return n;
}

size_t show_stat(char *to, size_t size)
{
	u64 ticks = threads_cpu_ns() / 10000000;
	char name[24];

	name[show_comm(name, sizeof(name)) - 1] = 0; /* without its newline */
	return format(to, size,
		      "%d (%s) R 0 %d %d 0 -1 4194304 0 0 0 0 %lu 0 0 0 20 0 %u 0 0 %lu %lu "
		      "18446744073709551615 0 0 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n",
		      PROCESS_ID, name, PROCESS_ID, PROCESS_ID, ticks, thread_count, mapped_bytes(),
		      used_pages());
}

size_t show_statm(char *to, size_t size)
{
	u64 pages = mapped_bytes() >> PAGE_SHIFT;

	return format(to, size, "%lu %lu 0 0 0 %lu 0\n", pages, used_pages(), pages);
}

/* A row of strings, with their ends. */
static size_t copy_strings(char *to, size_t size, u32 offset, u32 count)
{
	const char *from = boot_string(offset);
	size_t n = 0;

	for (; count > 0; count--)
		n += strlen(from + n) + 1;
	n = MIN(n, size - 1);
	memcpy(to, from, n);
	return n;
}

size_t show_cmdline(char *to, size_t size)
{
	return copy_strings(to, size, boot_info->argv_offset, boot_info->argc);
}

size_t show_environ(char *to, size_t size)
{
	return copy_strings(to, size, boot_info->env_offset, boot_info->envc);
}

size_t show_cgroup(char *to, size_t size)
{
	return format(to, size, "0::/\n");
}

size_t show_limits(char *to, size_t size)
{
	return format(to, size, "%-26s%-21s%-21s%-10s\n%-26s%-21lu%-21lu%-10s\n%-26s%-21lu%-21s%-10s\n", "Limit",
		      "Soft Limit", "Hard Limit", "Units", "Max open files", (u64)limits[RLIMIT_NOFILE].rlim_cur,
		      (u64)limits[RLIMIT_NOFILE].rlim_max, "files", "Max stack size",
		      (u64)limits[RLIMIT_STACK].rlim_cur, "unlimited", "bytes");
}

static const struct {
	const char *source, *path, *kind, *options;
} mounts[] = {
	{ "root", "/", "overlay", "rw,noatime" },
	{ "devtmpfs", "/dev", "devtmpfs", "rw,nosuid" },
	{ "proc", "/proc", "proc", "rw,nosuid,nodev,noexec" },
	{ "sysfs", "/sys", "sysfs", "ro,nosuid,nodev,noexec" },
	{ "tmpfs", "/dev/shm", "tmpfs", "rw,nosuid,nodev" },
};

size_t show_mounts(char *to, size_t size)
{
	size_t n = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(mounts); i++)
		n += format(to + n, size - n, "%s %s %s %s 0 0\n", mounts[i].source, mounts[i].path,
			    mounts[i].kind, mounts[i].options);
	for (unsigned i = 0; i < boot_info->share_count; i++)
		n += format(to + n, size - n, "share%u %s 9p %s 0 0\n", i,
			    boot_string(boot_info->shares[i].path_offset),
			    boot_info->shares[i].read_only ? "ro" : "rw");
	return n;
}

size_t show_mountinfo(char *to, size_t size)
{
	size_t n = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(mounts); i++)
		n += format(to + n, size - n, "%u %u 0:%u / %s %s - %s %s rw\n", i + 20, i ? 20U : 1U, i + 1,
			    mounts[i].path, mounts[i].options, mounts[i].kind, mounts[i].source);
	return n;
}
