/* The system: names, memory, random numbers, scheduling, prctl, unknown calls. */
#include "case.h"
#include <sched.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

int main(void)
{
	struct utsname name;
	struct sysinfo info;
	struct sched_param param;
	struct timespec t;
	unsigned char a[64] = { 0 }, b[64] = { 0 };
	unsigned cpu = 77, node = 77;
	cpu_set_t set;
	int signal_number = 0, different = 0;

	CALL("uname", uname(&name));
	TEXT("system", "%s %s", name.sysname, name.machine);
	HOLDS("release has numbers", atoi(name.release) >= 4);
	HOLDS("has a node name", name.nodename[0]);
	CALL("uname to nowhere", uname(BAD));
	CALL("sysinfo", sysinfo(&info));
	HOLDS("memory", info.totalram >= info.freeram && info.totalram * info.mem_unit > 16 << 20);
	HOLDS("uptime", info.uptime >= 0 && info.procs >= 1);
	CALL("page", sysconf(_SC_PAGESIZE));
	HOLDS("processors", sysconf(_SC_NPROCESSORS_ONLN) >= 1 && get_nprocs_conf() >= 1);

	CALL("getrandom", getrandom(a, sizeof(a), 0));
	CALL("again", getrandom(b, sizeof(b), GRND_NONBLOCK));
	HOLDS("differs", memcmp(a, b, sizeof(a)));
	for (int i = 0; i < 64; i++)
		different += a[i] != a[0];
	HOLDS("looks random", different > 40);
	CALL("flags", getrandom(a, 1, 0x77));
	CALL("nowhere", getrandom(BAD, 10, 0));
	CALL("nothing", getrandom(a, 0, 0));
	CALL("much", getrandom(malloc(1 << 20), 1 << 20, 0));

	CALL("affinity", sched_getaffinity(0, sizeof(set), &set));
	HOLDS("of something", CPU_COUNT(&set) >= 1);
	CALL("set it to the same", sched_setaffinity(0, sizeof(set), &set));
	CALL("too small", syscall(SYS_sched_getaffinity, 0, 1, &set));
	CPU_ZERO(&set);
	CALL("to nothing", sched_setaffinity(0, sizeof(set), &set));
	CALL("of nobody", sched_getaffinity(99999999, sizeof(set), &set));
	CALL("getcpu", getcpu(&cpu, &node));
	HOLDS("is one", cpu < 4096 && node < 1024);
	CALL("yield", sched_yield());
	CALL("scheduler", sched_getscheduler(0));
	CALL("parameter", sched_getparam(0, &param));
	CALL("priority", param.sched_priority);
	CALL("highest", sched_get_priority_max(SCHED_FIFO));
	CALL("lowest", sched_get_priority_min(SCHED_FIFO));
	CALL("highest of others", sched_get_priority_max(SCHED_OTHER));
	CALL("of no policy", sched_get_priority_max(77));
	CALL("interval", sched_rr_get_interval(0, &t));
	CALL("nice", getpriority(PRIO_PROCESS, 0));
	CALL("nicer", setpriority(PRIO_PROCESS, 0, 5));
	CALL("is nicer", getpriority(PRIO_PROCESS, 0));
	CALL("of what", getpriority(77, 0));

	CALL("dumpable", prctl(PR_GET_DUMPABLE));
	CALL("not dumpable", (prctl(PR_SET_DUMPABLE, 0), prctl(PR_GET_DUMPABLE)));
	CALL("signal of the parent's death", prctl(PR_SET_PDEATHSIG, SIGTERM));
	CALL("told", (prctl(PR_GET_PDEATHSIG, &signal_number), signal_number));
	CALL("keep capabilities", prctl(PR_GET_KEEPCAPS));
	CALL("no new privileges", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	CALL("are none", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
	CALL("timer slack", prctl(PR_GET_TIMERSLACK));
	CALL("unknown prctl", prctl(12345, 0, 0, 0, 0));
	CALL("personality", personality(0xffffffff));
	CALL("sync", (sync(), 0));
	CALL("unknown call", syscall(999));
	CALL("unknown call, negative", syscall(-5));
	CALL("membarrier", syscall(SYS_membarrier, 0, 0, 0) > 0);
	return 0;
}
