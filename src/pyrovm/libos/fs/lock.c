/*
 * Locks of files: flock(2) and fcntl(2).
 *
 * Locks of fcntl(F_SETLK) belong to the process, of which there is one, so they never hinder each
 * other; those of flock and of F_OFD_SETLK belong to the open file.  Files are told apart by device
 * and number, as host folders have another inode for each look-up.  The host knows nothing of it.
 */
#include "calls.h"
#include "fs.h"

struct lock {
	struct list link;
	struct file *owner; /* NULL: the process */
	u32 device;
	u64 number;
	bool is_flock; /* which fcntl's do not see, nor the other way round */
	bool is_exclusive;
	u64 start, end; /* the last byte; FOREVER: as far as the file goes */
};

static struct list locks = LIST_INIT(locks);
static struct waitq waiting = WAITQ_INIT(waiting); /* for any of them to go */

static bool is_same_file(const struct lock *a, const struct lock *b)
{
	return a->is_flock == b->is_flock && a->device == b->device && a->number == b->number;
}

static struct lock *find_conflict(const struct lock *wanted)
{
	struct lock *l, *first = NULL;

	list_each(l, &locks, link)
		if (is_same_file(l, wanted) && l->owner != wanted->owner && l->start <= wanted->end &&
		    wanted->start <= l->end && (l->is_exclusive || wanted->is_exclusive) &&
		    (!first || l->start < first->start))
			first = l;
	return first;
}

static void drop(struct lock *l)
{
	list_remove(&l->link);
	kfree(l);
}

/* Take the range away from the owner's locks; one in whose middle it lies becomes two. */
static long cut_out(const struct lock *range)
{
	struct lock *l, *after;

	list_each_safe(l, after, &locks, link) {
		if (!is_same_file(l, range) || l->owner != range->owner || l->end < range->start ||
		    range->end < l->start)
			continue;
		if (l->start < range->start && range->end < l->end) {
			struct lock *rest = kalloc(sizeof(*rest));

			if (!rest)
				return -ENOLCK;
			*rest = *l;
			rest->start = range->end + 1;
			list_add(&l->link, &rest->link);
			l->end = range->start - 1;
		} else if (l->start < range->start) {
			l->end = range->start - 1;
		} else if (range->end < l->end) {
			l->start = range->end + 1;
		} else {
			drop(l);
		}
	}
	return 0;
}

static bool touch(const struct lock *a, const struct lock *b)
{
	return (a->end != FOREVER && a->end + 1 == b->start) || (b->end != FOREVER && b->end + 1 == a->start);
}

/* Locks of one owner that touch become one, so that their number stays small. */
static void absorb_neighbours(struct lock *new)
{
	struct lock *l, *after;

	list_each_safe(l, after, &locks, link) {
		if (!is_same_file(l, new) || l->owner != new->owner || l->is_exclusive != new->is_exclusive ||
		    !touch(l, new))
			continue;
		new->start = MIN(new->start, l->start);
		new->end = MAX(new->end, l->end);
		drop(l);
	}
}

/* Lock, waiting if need be, or unlock. */
static long set(const struct lock *wanted, bool unlock, bool may_sleep)
{
	struct lock *new = NULL;
	long error;

	if (wanted->is_flock && !unlock) { /* flock(2): it is not converted, but given up for another */
		cut_out(wanted);
		waitq_wake(&waiting, ~0u);
	}
	while (!unlock && find_conflict(wanted)) {
		if (!may_sleep)
			return -EAGAIN;
		if (sleep_on(&waiting, FOREVER))
			return -ERESTARTSYS;
	}
	if (!unlock) {
		new = kalloc(sizeof(*new));
		if (!new)
			return -ENOLCK;
		*new = *wanted;
	}
	error = cut_out(wanted);
	if (error) {
		kfree(new);
		return error;
	}
	if (new) {
		list_add(&locks, &new->link);
		absorb_neighbours(new);
	}
	waitq_wake(&waiting, ~0u); /* a range may be shared from now on, or free */
	return 0;
}

static struct lock whole_file(const struct file *f, struct file *owner, bool is_flock)
{
	return (struct lock){ .owner = owner, .device = f->inode->device, .number = f->inode->number,
			      .is_flock = is_flock, .end = FOREVER };
}

void locks_of_file_end(struct file *f)
{
	struct lock *l, *after;
	bool is_any = false;

	list_each_safe(l, after, &locks, link) {
		if (l->owner != f)
			continue;
		drop(l);
		is_any = true;
	}
	if (is_any)
		waitq_wake(&waiting, ~0u);
}

void locks_of_process_end(const struct file *f)
{
	struct lock range;

	if (list_empty(&locks) || !f->inode)
		return;
	range = whole_file(f, NULL, false);
	cut_out(&range); /* the whole of it: nothing is split, nothing can fail */
	waitq_wake(&waiting, ~0u);
}

CALL2(flock, fd, operation)
{
	u64 what = operation & ~(u64)LOCK_NB;
	struct lock wanted;
	struct file *f;
	long result;

	if (what != LOCK_SH && what != LOCK_EX && what != LOCK_UN)
		return -EINVAL;
	result = fd_take_io((int)fd, &f);
	if (result)
		return result;
	if (f->inode) {
		wanted = whole_file(f, f, true);
		wanted.is_exclusive = what == LOCK_EX;
		result = set(&wanted, what == LOCK_UN, !(operation & LOCK_NB));
	}
	file_put(f);
	return result;
}

/* The range of struct flock: from where it counts, and that it may go backwards. */
static long take_range(struct file *f, const struct flock *given, struct lock *to)
{
	s64 start = given->l_start, last;

	if (given->l_whence == SEEK_CUR)
		start += (s64)f->position;
	else if (given->l_whence == SEEK_END)
		start += (s64)file_size(f);
	else if (given->l_whence != SEEK_SET)
		return -EINVAL;
	if (given->l_len < 0) {
		last = start - 1;
		start += given->l_len;
	} else if (__builtin_add_overflow(start, given->l_len - 1, &last)) {
		return -EOVERFLOW;
	}
	if (start < 0)
		return -EINVAL;
	to->start = (u64)start;
	to->end = given->l_len ? (u64)last : FOREVER;
	return 0;
}

static void describe(const struct lock *l, struct flock *to)
{
	to->l_type = l->is_exclusive ? F_WRLCK : F_RDLCK;
	to->l_whence = SEEK_SET;
	to->l_start = (s64)l->start;
	to->l_len = l->end == FOREVER ? 0 : (s64)(l->end - l->start + 1);
	to->l_pid = l->owner ? -1 : PROCESS_ID;
}

static bool may_lock(const struct file *f, int type)
{
	u32 mode = f->flags & O_ACCMODE;

	return type == F_UNLCK || (type == F_RDLCK ? mode != O_WRONLY : mode != O_RDONLY);
}

long file_lock(struct file *f, u32 command, u64 address)
{
	bool is_ofd = command == F_OFD_GETLK || command == F_OFD_SETLK || command == F_OFD_SETLKW;
	bool is_question = command == F_GETLK || command == F_OFD_GETLK;
	struct flock *given = (void *)address;
	struct lock wanted, *other;
	long error;

	if (user_check(given, sizeof(*given), is_question))
		return -EFAULT;
	if ((given->l_type != F_RDLCK && given->l_type != F_WRLCK && given->l_type != F_UNLCK) || !f->inode)
		return -EINVAL;
	if (is_ofd && given->l_pid)
		return -EINVAL;
	wanted = whole_file(f, is_ofd ? f : NULL, false);
	wanted.is_exclusive = given->l_type == F_WRLCK;
	error = take_range(f, given, &wanted);
	if (error)
		return error;
	if (is_question) {
		other = given->l_type == F_UNLCK ? NULL : find_conflict(&wanted);
		if (other)
			describe(other, given);
		else
			given->l_type = F_UNLCK;
		return 0;
	}
	if (!may_lock(f, given->l_type))
		return -EBADF;
	return set(&wanted, given->l_type == F_UNLCK, command == F_SETLKW || command == F_OFD_SETLKW);
}
