/* The tables of /proc and /sys, and what they tell of the machine. */
#include "../calls.h"
#include "proc.h"

static size_t show_cpuinfo(char *to, size_t size)
{
	/* Cannot ask the CPU: CPUID is not to be trusted in a guest; the VMM has told what may be used. */
	static const struct {
		u32 bit;
		const char *name;
	} features[] = { { 0, "fpu" }, { 4, "tsc" }, { 8, "cx8" }, { 15, "cmov" }, { 23, "mmx" },
			 { 24, "fxsr" }, { 25, "sse" }, { 26, "sse2" }, { 28, "ht" } };
	size_t n = 0;

	for (u32 cpu = 0; cpu < MAX(boot_info->vcpu_count, 1U); cpu++) {
		n += format(to + n, size - n,
			    "processor\t: %u\nvendor_id\t: pyrovm\ncpu family\t: 6\nmodel name\t: vCPU\n"
			    "cpu MHz\t\t: %lu.%03lu\nphysical id\t: 0\nsiblings\t: %u\ncore id\t\t: %u\n"
			    "cpu cores\t: %u\nflags\t\t: lm syscall nx",
			    cpu, boot_info->tsc_khz / 1000, boot_info->tsc_khz % 1000,
			    boot_info->vcpu_count, cpu, boot_info->vcpu_count);
		for (unsigned i = 0; i < ARRAY_SIZE(features); i++)
			if (boot_info->hwcap >> features[i].bit & 1)
				n += format(to + n, size - n, " %s", features[i].name);
		n += format(to + n, size - n, "\naddress sizes\t: 39 bits physical, 48 bits virtual\n\n");
	}
	return n;
}

static size_t show_meminfo(char *to, size_t size)
{
	u64 total = page_count_total() << 2, free = page_count_free() << 2, files = ram_page_count << 2;

	return format(to, size,
		      "MemTotal:       %8lu kB\nMemFree:        %8lu kB\nMemAvailable:   %8lu kB\n"
		      "Buffers:               0 kB\nCached:         %8lu kB\nSwapCached:            0 kB\n"
		      "SwapTotal:             0 kB\nSwapFree:              0 kB\nShmem:          %8lu kB\n"
		      "HugePages_Total:       0\nHugePages_Free:        0\nHugepagesize:       2048 kB\n",
		      total, free, free, files, files);
}

static size_t show_uptime(char *to, size_t size)
{
	u64 hundredths = clock_monotonic() / 10000000;

	return format(to, size, "%lu.%02lu 0.00\n", hundredths / 100, hundredths % 100);
}

static size_t show_machine_stat(char *to, size_t size)
{
	u64 ticks = clock_monotonic() / 10000000;
	size_t n = format(to, size, "cpu  %lu 0 0 0 0 0 0 0 0 0\n", ticks);

	for (u32 cpu = 0; cpu < boot_info->vcpu_count; cpu++)
		n += format(to + n, size - n, "cpu%u %lu 0 0 0 0 0 0 0 0 0\n", cpu, ticks);
	return n + format(to + n, size - n, "btime %lu\nprocesses 1\nprocs_running 1\nprocs_blocked 0\n",
			  (u64)((clock_realtime() - clock_monotonic()) / NSEC_PER_SEC));
}

static size_t show_loadavg(char *to, size_t size)
{
	return format(to, size, "0.00 0.00 0.00 1/%u %d\n", thread_count, PROCESS_ID);
}

static size_t show_version(char *to, size_t size)
{
	return format(to, size, "Linux version %s (pyrovm) #1 pyrovm library OS\n", LINUX_RELEASE);
}

static size_t show_filesystems(char *to, size_t size)
{
	return format(to, size, "nodev\tproc\nnodev\tsysfs\nnodev\ttmpfs\nnodev\toverlay\n\terofs\n");
}

static size_t show_release(char *to, size_t size)
{
	return format(to, size, "%s\n", LINUX_RELEASE);
}

static size_t show_type(char *to, size_t size)
{
	return format(to, size, "Linux\n");
}

static size_t show_hostname(char *to, size_t size)
{
	return format(to, size, "%s\n",
		      (const char *)phys_to_virt(boot_info->strings_gpa) + boot_info->hostname_offset);
}

static size_t uuid(char *to, size_t size, const u8 *b)
{
	size_t n = 0;

	for (int i = 0; i < 16; i++)
		n += format(to + n, size - n, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
			    i == 6 ? (b[i] & 0x0f) | 0x40 : i == 8 ? (b[i] & 0x3f) | 0x80 : b[i]);
	return n + format(to + n, size - n, "\n");
}

static size_t show_boot_id(char *to, size_t size)
{
	static u8 id[16];
	static bool is_made;

	if (!is_made)
		random_bytes(id, sizeof(id));
	is_made = true;
	return uuid(to, size, id);
}

static size_t show_uuid(char *to, size_t size)
{
	u8 id[16];

	random_bytes(id, sizeof(id));
	return uuid(to, size, id);
}

static size_t show_cpus(char *to, size_t size)
{
	if (boot_info->vcpu_count <= 1)
		return format(to, size, "0\n");
	return format(to, size, "0-%u\n", boot_info->vcpu_count - 1);
}

static size_t show_self(char *to, size_t size)
{
	return format(to, size, "%d", PROCESS_ID);
}

static size_t show_thread_self(char *to, size_t size)
{
	return format(to, size, "%d/task/%d", PROCESS_ID, current()->tid);
}

static size_t show_self_mounts(char *to, size_t size)
{
	return format(to, size, "self/mounts");
}

#define CONSTANT(name, text) \
	static size_t show_##name(char *to, size_t size) { return format(to, size, text "\n"); }
CONSTANT(0, "0")
CONSTANT(1, "1")
CONSTANT(2, "2")
CONSTANT(10, "10")
CONSTANT(60, "60")
CONSTANT(256, "256")
CONSTANT(8192, "8192")
CONSTANT(somaxconn, "4096")
CONSTANT(pid_max, "4194304")
CONSTANT(threads_max, "4096")
CONSTANT(pipe_max, "1048576")
CONSTANT(file_max, "65536")
CONSTANT(map_count, "65530")
CONSTANT(never, "always madvise [never]")
CONSTANT(pmd_size, "2097152")
CONSTANT(entropy, "256")
CONSTANT(kernel_version, "#1 pyrovm library OS")

#define TEXT (S_IFREG | 0444)
#define SETTABLE (S_IFREG | 0644)
#define LINK (S_IFLNK | 0777)

const struct proc_file proc_files[] = {
	{ "cpuinfo", TEXT, show_cpuinfo },
	{ "filesystems", TEXT, show_filesystems },
	{ "loadavg", TEXT, show_loadavg },
	{ "meminfo", TEXT, show_meminfo },
	{ "mounts", LINK, show_self_mounts },
	{ "self", LINK, show_self },
	{ "stat", TEXT, show_machine_stat },
	{ "sys/fs/file-max", TEXT, show_file_max },
	{ "sys/fs/mqueue/msg_default", TEXT, show_10 },
	{ "sys/fs/mqueue/msg_max", TEXT, show_10 },
	{ "sys/fs/mqueue/msgsize_default", TEXT, show_8192 },
	{ "sys/fs/mqueue/msgsize_max", TEXT, show_8192 },
	{ "sys/fs/mqueue/queues_max", TEXT, show_256 },
	{ "sys/fs/nr_open", TEXT, show_file_max },
	{ "sys/fs/pipe-max-size", TEXT, show_pipe_max },
	{ "sys/kernel/hostname", TEXT, show_hostname },
	{ "sys/kernel/osrelease", TEXT, show_release },
	{ "sys/kernel/ostype", TEXT, show_type },
	{ "sys/kernel/pid_max", TEXT, show_pid_max },
	{ "sys/kernel/random/boot_id", TEXT, show_boot_id },
	{ "sys/kernel/random/entropy_avail", TEXT, show_entropy },
	{ "sys/kernel/random/uuid", TEXT, show_uuid },
	{ "sys/kernel/randomize_va_space", TEXT, show_2 },
	{ "sys/kernel/threads-max", TEXT, show_threads_max },
	{ "sys/kernel/version", TEXT, show_kernel_version },
	{ "sys/net/core/somaxconn", TEXT, show_somaxconn },
	{ "sys/vm/max_map_count", TEXT, show_map_count },
	{ "sys/vm/overcommit_memory", SETTABLE, show_1 },
	{ "sys/vm/swappiness", TEXT, show_60 },
	{ "thread-self", LINK, show_thread_self },
	{ "uptime", TEXT, show_uptime },
	{ "version", TEXT, show_version },
	{ "PID/cgroup", TEXT, show_cgroup },
	{ "PID/cmdline", TEXT, show_cmdline },
	{ "PID/comm", SETTABLE, show_comm },
	{ "PID/cwd", LINK, show_cwd },
	{ "PID/environ", TEXT, show_environ },
	{ "PID/exe", LINK, show_exe },
	{ "PID/fd", S_IFDIR | 0500, NULL },
	{ "PID/fdinfo", S_IFDIR | 0500, NULL },
	{ "PID/limits", TEXT, show_limits },
	{ "PID/maps", TEXT, show_maps },
	{ "PID/mountinfo", TEXT, show_mountinfo },
	{ "PID/mounts", TEXT, show_mounts },
	{ "PID/oom_score_adj", SETTABLE, show_0 },
	{ "PID/root", LINK, show_root },
	{ "PID/stat", TEXT, show_stat },
	{ "PID/statm", TEXT, show_statm },
	{ "PID/status", TEXT, show_status },
	{ "PID/task", S_IFDIR | 0555, NULL },
};
const unsigned proc_file_count = ARRAY_SIZE(proc_files);

const struct proc_file sys_files[] = {
	{ "devices/system/cpu/online", TEXT, show_cpus },
	{ "devices/system/cpu/possible", TEXT, show_cpus },
	{ "devices/system/cpu/present", TEXT, show_cpus },
	{ "kernel/mm/transparent_hugepage/enabled", TEXT, show_never },
	{ "kernel/mm/transparent_hugepage/hpage_pmd_size", TEXT, show_pmd_size },
};
const unsigned sys_file_count = ARRAY_SIZE(sys_files);
