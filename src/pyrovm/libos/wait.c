/*
 * What the host will tell: one call asks for everything that anybody waits for, and sleeps until
 * something of it happens, a deadline, or a signal.
 */
#include "cpu.h"

static struct host_source **sources; /* by handle */
static u32 source_count;
static struct list to_arm = LIST_INIT(to_arm);
static u32 armed_count;
static struct pv_event *buffers[PV_CPU_MAX]; /* a page each: arms, and behind them events */

void host_source_init(struct host_source *s, u32 handle)
{
	*s = (struct host_source){ .handle = handle };
	waitq_init(&s->waiters);
	list_init(&s->link);
	if (handle >= source_count) {
		u32 wanted = MAX(handle + 1, source_count * 2 + 16);
		struct host_source **bigger =
			krealloc(sources, source_count * sizeof(*sources), wanted * sizeof(*sources));

		if (!bigger)
			process_out_of_memory();
		sources = bigger;
		source_count = wanted;
	}
	sources[handle] = s;
}

void host_source_deinit(struct host_source *s)
{
	list_remove(&s->link);
	if (s->armed)
		armed_count--;
	if (s->handle < source_count && sources[s->handle] == s)
		sources[s->handle] = NULL;
}

void host_source_arm(struct host_source *s, u32 wanted)
{
	if ((s->armed & wanted) == wanted)
		return;
	if (!s->armed)
		armed_count++;
	s->armed |= wanted;
	if (list_empty(&s->link))
		list_add(&to_arm, &s->link);
}

void host_sources_rearm(void)
{
	for (u32 i = 0; i < source_count; i++) {
		struct host_source *s = sources[i];

		if (s && s->armed && list_empty(&s->link))
			list_add(&to_arm, &s->link);
	}
}

bool host_is_armed(void)
{
	return armed_count > 0;
}

bool host_is_to_arm(void)
{
	return !list_empty(&to_arm);
}

static u32 take_arms(struct pv_event *arms)
{
	u32 n = 0;

	while (n < PV_ARMS_MAX && !list_empty(&to_arm)) {
		struct host_source *s = list_first(&to_arm, struct host_source, link);

		list_remove(&s->link);
		arms[n++] = (struct pv_event){ s->handle, s->armed };
	}
	return n;
}

static void happened(const struct pv_event *event)
{
	struct host_source *s;

	if (event->handle >= source_count || !sources[event->handle])
		return;
	s = sources[event->handle];
	if (s->armed) {
		s->armed = 0;
		armed_count--;
	}
	s->ready |= event->events;
	list_remove(&s->link);
	waitq_wake(&s->waiters, ~0u);
}

static u64 timeout_of(u64 deadline)
{
	u64 now = clock_monotonic();

	return deadline == FOREVER ? FOREVER : deadline > now ? deadline - now : 0;
}

static struct pv_event *own_buffer(void)
{
	struct pv_event **buffer = &buffers[cpu_number()];

	if (!*buffer) {
		u64 gpa = page_alloc();

		_Static_assert((PV_ARMS_MAX + PV_EVENTS_MAX) * sizeof(**buffer) <= PAGE_SIZE, "one page");
		if (!gpa)
			panic("no memory to wait with");
		*buffer = phys_to_virt(gpa);
	}
	return *buffer;
}

/* An entry without events has been taken before, by another CPU maybe. */
static bool take_events(struct pv_event *events)
{
	bool found = false;

	for (u32 i = 0; i < PV_EVENTS_MAX && events[i].events; i++) {
		happened(&events[i]);
		events[i].events = 0;
		found = true;
	}
	return found;
}

static void ask(u64 deadline, bool listens, bool unlocked)
{
	struct pv_event *arms = own_buffer(), *events = arms + PV_ARMS_MAX;
	bool found;

	do {
		u32 n = take_arms(arms);
		u64 until = list_empty(&to_arm) ? deadline : 0, timeout = timeout_of(until);
		long result;

		if (unlocked)
			cpu_unlock();
		result = host_call(PV_WAIT, timeout, virt_to_phys(arms), n, virt_to_phys(events),
				   listens ? PV_EVENTS_MAX : 0, 0);
		if (unlocked)
			cpu_lock();
		if (result < 0)
			panic("waiting failed: %ld", result);
		found = take_events(events);
		branch_check();
	} while (!found && !list_empty(&to_arm));
}

void host_wait_unlocked(u64 deadline, bool listens)
{
	ask(deadline, listens, true);
	signals_from_host();
}

void host_wait(u64 deadline)
{
	struct cpu *listener = cpu_that_listens();

	ask(deadline, true, false);
	/* What an idle CPU was told but could not take yet, because we are in here. */
	if (listener)
		take_events(buffers[listener - cpus] + PV_ARMS_MAX);
	signals_from_host();
}
