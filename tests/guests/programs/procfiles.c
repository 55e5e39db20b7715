/* /proc, /dev and /sys as runtimes look at them. */
#include "case.h"
#include <dirent.h>
#include <sys/mman.h>
#include <sys/stat.h>

static const char *first_line(const char *path)
{
	static char line[512];

	snprintf(line, sizeof(line), "%s", get_file(path));
	line[strcspn(line, "\n")] = 0;
	return line;
}
static long field(const char *path, const char *name)
{
	const char *at = strstr(get_file(path), name);

	return at ? atol(at + strlen(name)) : -1;
}

int main(int argc, char **argv)
{
	char path[300] = "", text[300] = "";
	struct stat a, b;
	int fd, count = 0;
	DIR *dir;
	struct dirent *entry;
	void *map;

	close_range(3, ~0U, 0); /* what was left to us */
	CALL("self", readlink("/proc/self", path, 299) > 0 && atoi(path) == getpid());
	HOLDS("exe", readlink("/proc/self/exe", path, 299) > 0 && path[0] == '/');
	stat("/proc/self/exe", &a);
	stat(path, &b);
	HOLDS("exe is the file", a.st_ino == b.st_ino && a.st_size == b.st_size);
	HOLDS("exe can be read", !strncmp(get_file("/proc/self/exe"), "\177ELF", 4));
	memset(path, 0, sizeof(path));
	getcwd(text, 300);
	HOLDS("cwd", readlink("/proc/self/cwd", path, 299) > 0 && !strcmp(path, text));
	HOLDS("command line", !strcmp(get_file("/proc/self/cmdline"), argv[0]));
	HOLDS("name", strlen(first_line("/proc/self/comm")) > 0);
	HOLDS("pid in stat", atoi(get_file("/proc/self/stat")) == getpid());
	HOLDS("pid in status", field("/proc/self/status", "Pid:") == getpid());
	CALL("threads", field("/proc/self/status", "Threads:"));
	HOLDS("resident", field("/proc/self/status", "VmRSS:") > 0);
	HOLDS("statm", atol(get_file("/proc/self/statm")) > 0);
	HOLDS("maps", strstr(get_file("/proc/self/maps"), "[stack]") && strstr(get_file("/proc/self/maps"), "r-xp"));
	map = mmap(NULL, 12288, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	mprotect((char *)map + 4096, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
	sprintf(text, "%lx-%lx rwxp", (long)map + 4096, (long)map + 8192);
	HOLDS("maps has a mapping", strstr(get_file("/proc/self/maps"), text));
	HOLDS("limits", strstr(get_file("/proc/self/limits"), "Max open files"));
	HOLDS("environment", (long)strlen(get_file("/proc/self/environ")) > 0);
	HOLDS("mounts", strstr(get_file("/proc/self/mounts"), " / "));
	HOLDS("mountinfo", strstr(get_file("/proc/self/mountinfo"), " / "));
	HOLDS("cgroup", strchr(get_file("/proc/self/cgroup"), ':'));
	HOLDS("thread folder", access("/proc/thread-self/", F_OK) == 0);
	sprintf(path, "/proc/%d/status", getpid());
	CALL("by number", access(path, R_OK));
	CALL("nobody", access("/proc/99999999", F_OK));
	CALL("task", access("/proc/self/task", F_OK));

	put_file("file", "text");
	fd = open("file", O_RDWR);
	sprintf(path, "/proc/self/fd/%d", fd);
	memset(text, 0, sizeof(text));
	readlink(path, text, 299);
	HOLDS("link of a descriptor", !strcmp(strrchr(text, '/'), "/file"));
	unlink("file");
	memset(text, 0, sizeof(text));
	readlink(path, text, 299);
	HOLDS("of a removed file", strstr(text, "/file (deleted)"));
	TEXT("opened again", "%s", get_file(path));
	dir = opendir("/proc/self/fd");
	while ((entry = readdir(dir)))
		count += entry->d_name[0] != '.';
	CALL("descriptors", count);
	closedir(dir);
	sprintf(path, "/proc/self/fdinfo/%d", fd);
	HOLDS("fdinfo", strstr(get_file(path), "pos:\t0"));
	lseek(fd, 5, SEEK_SET);
	HOLDS("position", strstr(get_file(path), "pos:\t5\n"));
	HOLDS("flags", strstr(get_file(path), "flags:\t0"));
	CALL("fdinfo of none", access("/proc/self/fdinfo/99", F_OK));
	CALL("closed", readlink("/proc/self/fd/99", text, 100));
	TEXT("/dev/fd", "%d", stat("/dev/fd/0", &a));
	TEXT("/dev/stdin", "%d", stat("/dev/stdin", &a));

	HOLDS("processor", strstr(get_file("/proc/cpuinfo"), "model name") && strstr(get_file("/proc/cpuinfo"), "flags"));
	HOLDS("memory", field("/proc/meminfo", "MemTotal:") >= field("/proc/meminfo", "MemAvailable:"));
	HOLDS("uptime", atof(get_file("/proc/uptime")) >= 0);
	HOLDS("load", strchr(get_file("/proc/loadavg"), '/'));
	HOLDS("stat", strstr(get_file("/proc/stat"), "cpu0 "));
	HOLDS("version", !strncmp(get_file("/proc/version"), "Linux version", 13));
	HOLDS("file systems", strstr(get_file("/proc/filesystems"), "proc"));
	HOLDS("overcommit", atoi(get_file("/proc/sys/vm/overcommit_memory")) >= 0);
	HOLDS("host name", strlen(first_line("/proc/sys/kernel/hostname")) > 0);
	HOLDS("release", atoi(first_line("/proc/sys/kernel/osrelease")) >= 4);
	HOLDS("largest pid", atol(get_file("/proc/sys/kernel/pid_max")) > 100);
	HOLDS("boot id", strlen(first_line("/proc/sys/kernel/random/boot_id")) == 36);
	HOLDS("connections allowed", atol(get_file("/proc/sys/net/core/somaxconn")) > 0);
	HOLDS("CPUs online", get_file("/sys/devices/system/cpu/online")[0] == '0');
	CALL("nothing", open("/proc/no-such-file", O_RDONLY));
	return 0;
}
