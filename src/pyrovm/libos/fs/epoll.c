/*
 * epoll: a set of files, and those among them that may have something to tell.
 *
 * Each file in the set tells by a waiter when something changes; it is then put on the ready list, and
 * epoll_wait asks it what really holds.  Level-triggered ones stay on the list as long as it does.
 */
#include <linux/eventpoll.h>

#include "calls.h"
#include "poll.h"

#define DEPTH_MAX 5
#define EVENTS_MAX (0x7fffffff / sizeof(struct epoll_event))
#define EVENT_BITS 0x0fffffffu /* without EPOLLET and the like */

struct epoll {
	struct list items, ready;
	struct waitq waiters;
};

struct item {
	struct list link, ready, watch; /* of the epoll; of its ready list; of the file's watches */
	struct waiter waiter;
	struct epoll *epoll;
	struct file *file;
	int fd;
	u32 events;
	u64 data;
};

static void make_ready(struct item *item)
{
	if (list_empty(&item->ready))
		list_add(&item->epoll->ready, &item->ready);
	waitq_wake(&item->epoll->waiters, ~0u);
}

static void item_wake(struct waiter *w)
{
	struct item *item = container_of(w, struct item, waiter);

	if (item->events & EVENT_BITS)
		make_ready(item);
}

static u32 ask(struct item *item, struct waiter *w)
{
	u32 wanted = (item->events & EVENT_BITS) | POLLERR | POLLHUP;

	if (!(item->events & EVENT_BITS) && !w) /* EPOLLONESHOT, and it has told */
		return 0;
	return item->file->ops->poll(item->file, w, wanted) & wanted;
}

static void remove_item(struct item *item)
{
	list_remove(&item->link);
	list_remove(&item->ready);
	list_remove(&item->watch);
	list_remove(&item->waiter.link);
	kfree(item);
}

void epoll_forget(struct file *f)
{
	while (!list_empty(&f->watches))
		remove_item(list_first(&f->watches, struct item, watch));
}

static void epoll_release(struct file *f)
{
	struct epoll *e = f->data;

	while (!list_empty(&e->items))
		remove_item(list_first(&e->items, struct item, link));
	kfree(e);
}

static u32 epoll_poll(struct file *f, struct waiter *w, u32 wanted)
{
	struct epoll *e = f->data;
	struct item *item, *after;

	poll_add(&e->waiters, w);
	list_each_safe(item, after, &e->ready, ready) {
		if (ask(item, NULL))
			return (POLLIN | POLLRDNORM) & wanted;
		list_remove(&item->ready);
	}
	return 0;
}

static const struct file_ops epoll_ops = {
	.kind = "eventpoll",
	.poll = epoll_poll,
	.release = epoll_release,
};

bool is_epoll(const struct file *f)
{
	return f->ops == &epoll_ops;
}

static long make(u32 flags)
{
	struct epoll *e = kalloc(sizeof(*e));
	struct file *f = e ? file_anonymous(&epoll_ops, O_RDWR, e) : NULL;

	if (!f) {
		kfree(e);
		return -ENOMEM;
	}
	list_init(&e->items);
	list_init(&e->ready);
	waitq_init(&e->waiters);
	return file_install(f, flags & EPOLL_CLOEXEC);
}

CALL1(epoll_create, size)
{
	return (int)size <= 0 ? -EINVAL : make(0);
}

CALL1(epoll_create1, flags)
{
	return flags & ~(u64)EPOLL_CLOEXEC ? -EINVAL : make((u32)flags);
}

/* ------------------------------------------------------------------------------- epoll_ctl */

static struct item *find(const struct epoll *e, int fd, const struct file *f)
{
	struct item *item;

	list_each(item, &f->watches, watch) /* a file is in few sets, a set has many files */
		if (item->epoll == e && item->fd == fd)
			return item;
	return NULL;
}

/* Does f lead to `target`, or is the chain of sets below it too long? */
static bool leads_to(const struct file *f, const struct epoll *target, int depth)
{
	struct epoll *e = f->data;
	struct item *item;

	if (!is_epoll(f))
		return false;
	if (e == target || depth == 0)
		return true;
	list_each(item, &e->items, link)
		if (leads_to(item->file, target, depth - 1))
			return true;
	return false;
}

static long add(struct epoll *e, int fd, struct file *f, const struct epoll_event *event)
{
	struct item *item;

	if (leads_to(f, e, DEPTH_MAX))
		return -ELOOP;
	item = kalloc(sizeof(*item));
	if (!item)
		return -ENOMEM;
	*item = (struct item){ .epoll = e, .file = f, .fd = fd, .events = event->events | POLLERR | POLLHUP,
			       .data = event->data, .waiter = { .wake = item_wake } };
	list_init(&item->ready);
	list_init(&item->waiter.link);
	list_add(&e->items, &item->link);
	list_add(&f->watches, &item->watch);
	if (ask(item, &item->waiter))
		make_ready(item);
	return 0;
}

static long modify(struct item *item, const struct epoll_event *event)
{
	if ((item->events | event->events) & EPOLLEXCLUSIVE)
		return -EINVAL;
	item->events = event->events | POLLERR | POLLHUP;
	item->data = event->data;
	list_remove(&item->waiter.link);
	if (ask(item, &item->waiter))
		make_ready(item);
	else
		list_remove(&item->ready);
	return 0;
}

CALL4(epoll_ctl, epoll_fd, operation, fd, event_address)
{
	const struct epoll_event *from = (void *)event_address;
	struct file *set = fd_get((int)epoll_fd), *f = fd_get((int)fd);
	struct epoll_event event = { 0 };
	struct item *item;

	if (operation != EPOLL_CTL_DEL) {
		if (user_check(from, sizeof(*from), false))
			return -EFAULT;
		event = *from;
	}
	if (!set || !f)
		return -EBADF;
	if (f->flags & O_PATH)
		return -EBADF;
	/* What is always ready is not watched: regular files and folders. */
	if (!f->ops->poll || (f->inode && (S_ISREG(f->inode->mode) || S_ISDIR(f->inode->mode))))
		return -EPERM;
	if (!is_epoll(set) || set == f)
		return -EINVAL;
	if (event.events & EPOLLEXCLUSIVE &&
	    (operation != EPOLL_CTL_ADD || is_epoll(f) || event.events & EPOLLONESHOT))
		return -EINVAL;
	item = find(set->data, (int)fd, f);
	switch (operation) {
	case EPOLL_CTL_ADD:
		return item ? -EEXIST : add(set->data, (int)fd, f, &event);
	case EPOLL_CTL_MOD:
		return item ? modify(item, &event) : -ENOENT;
	case EPOLL_CTL_DEL:
		if (!item)
			return -ENOENT;
		remove_item(item);
		return 0;
	default:
		return -EINVAL;
	}
}

/* ------------------------------------------------------------------------------ epoll_wait */

static long collect(struct epoll *e, struct epoll_event *to, u64 max)
{
	struct list looked_at = LIST_INIT(looked_at);
	long found = 0;

	while (!list_empty(&e->ready) && (u64)found < max) {
		struct item *item = list_first(&e->ready, struct item, ready);
		u32 events = ask(item, NULL);

		list_remove(&item->ready);
		if (!events)
			continue;
		to[found].events = events;
		to[found++].data = item->data;
		if (item->events & EPOLLONESHOT)
			item->events &= ~EVENT_BITS;
		else if (!(item->events & EPOLLET))
			list_add(&looked_at, &item->ready);
	}
	/* Behind those that had no turn. */
	while (!list_empty(&looked_at)) {
		struct item *item = list_first(&looked_at, struct item, ready);

		list_remove(&item->ready);
		list_add(&e->ready, &item->ready);
	}
	return found;
}

/* How many events there may be now: so much of the program's buffer must be accessible. */
static u64 count_ready(const struct epoll *e, u64 max)
{
	const struct list *at;
	u64 n = 0;

	for (at = e->ready.next; at != &e->ready && n < max; at = at->next)
		n++;
	return n;
}

static long do_wait(u64 epoll_fd, u64 to, u64 max, u64 deadline)
{
	struct file *f;
	struct epoll *e;
	struct poll_table table;
	struct poll_waiter waiter;
	long result;

	if ((int)max <= 0 || max > EVENTS_MAX)
		return -EINVAL;
	result = fd_take((int)epoll_fd, &f);
	if (result)
		return result;
	if (!is_epoll(f)) {
		file_put(f);
		return -EINVAL;
	}
	e = f->data;
	poll_table_init(&table);
	for (bool asked = false;;) {
		u64 room = count_ready(e, max);

		result = user_check((void *)to, room * sizeof(struct epoll_event), true);
		if (!result)
			result = collect(e, (struct epoll_event *)to, room);
		if (!result && !deadline && !asked && host_is_armed()) {
			host_wait(0); /* who does not sleep asks the host here */
			asked = true;
			continue;
		}
		if (result || !deadline)
			break;
		if (!list_empty(&e->ready)) /* asking one has told of another */
			continue;
		poll_waiter_init(&waiter, &table);
		waitq_add(&e->waiters, &waiter.waiter);
		result = poll_sleep(&table, deadline);
		poll_waiter_deinit(&waiter);
		if (result == -ETIMEDOUT)
			deadline = 0; /* once more: it may have become ready just now */
		else if (result)
			break;
	}
	file_put(f);
	return result;
}

static u64 deadline_ms(u64 timeout)
{
	return (int)timeout < 0 ? FOREVER : deadline_after((u64)timeout * 1000000);
}

CALL4(epoll_wait, epoll_fd, to, max, timeout)
{
	return do_wait(epoll_fd, to, (u32)max, deadline_ms((u32)timeout));
}

static long wait_masked(u64 epoll_fd, u64 to, u64 max, u64 deadline, u64 mask, u64 size)
{
	long result = mask_replace(mask, size);

	if (result)
		return result;
	result = do_wait(epoll_fd, to, (u32)max, deadline);
	mask_restore(mask, result);
	return result;
}

long sys_epoll_pwait(u64 epoll_fd, u64 to, u64 max, u64 timeout, u64 mask, u64 size)
{
	return wait_masked(epoll_fd, to, max, deadline_ms((u32)timeout), mask, size);
}

long sys_epoll_pwait2(u64 epoll_fd, u64 to, u64 max, u64 timeout, u64 mask, u64 size)
{
	u64 deadline;
	long error = deadline_of(timeout, &deadline);

	return error ? error : wait_masked(epoll_fd, to, max, deadline, mask, size);
}
