/*
 * What the host will tell: one call asks for everything that anybody waits for, and sleeps until
 * something of it happens, a deadline, or a signal.
 */
#include "os.h"

static struct host_source **sources; /* by handle */
static u32 source_count;
static struct list to_arm = LIST_INIT(to_arm);
static u32 armed_count;
static struct pv_event *arms, *events; /* a page */

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

static u32 take_arms(void)
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

void host_wait(u64 deadline)
{
	if (!arms) {
		u64 gpa = page_alloc();

		_Static_assert((PV_ARMS_MAX + PV_EVENTS_MAX) * sizeof(*arms) <= PAGE_SIZE, "one page");
		if (!gpa)
			panic("no memory to wait with");
		arms = phys_to_virt(gpa);
		events = arms + PV_ARMS_MAX;
	}
	for (;;) {
		u32 n = take_arms();
		u64 until = list_empty(&to_arm) ? deadline : 0;
		long found = host_call(PV_WAIT, timeout_of(until), virt_to_phys(arms), n,
				       virt_to_phys(events), PV_EVENTS_MAX, 0);

		if (found < 0)
			panic("waiting failed: %ld", found);
		for (long i = 0; i < found; i++)
			happened(&events[i]);
		branch_check();
		if (found || (until == deadline && list_empty(&to_arm)))
			break;
	}
	signals_from_host();
}
