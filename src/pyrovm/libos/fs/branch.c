/*
 * /dev/pyrovm: what the program has to do with its being branched.
 *
 * Writing "ready" says that this is a good place; where somebody waits for that, each branch of the
 * VM goes on from there.  Reading tells what the VMM has to say, as text: a line "generation N", and
 * the arguments of this branch, a line each.  After its end nothing more comes until the generation
 * is another one; poll(2) tells when that is so.
 */
#include "fs.h"

#define READY "ready"

struct branch_file {
	u32 seen; /* the generation that was read, or is being read */
	u64 position;
};

static struct waitq watchers = WAITQ_INIT(watchers);
static u32 generation = PV_GENERATION_FIRST; /* that the library OS knows of */

void branch_check(void)
{
	u32 now = ((volatile struct pv_boot *)boot_info)->generation;

	if (likely(now == generation))
		return;
	generation = now;
	host_sources_rearm(); /* whoever was asked before knows nothing of us */
	waitq_wake(&watchers, ~0u);
}

static bool is_news(const struct branch_file *b)
{
	return b->seen != boot_info->generation || b->position < boot_info->news_size;
}

static long branch_read(struct file *f, struct io *io, u64 *position)
{
	struct branch_file *b = f->data;
	const u8 *text = phys_to_virt(boot_info->news_gpa);
	size_t n;

	(void)position;
	if (b->seen != boot_info->generation) {
		b->seen = boot_info->generation;
		b->position = 0;
	}
	if (b->position >= boot_info->news_size)
		return 0;
	n = io_put(io, text + b->position, MIN(io->length, boot_info->news_size - b->position));
	b->position += n;
	return (long)n;
}

static long branch_write(struct file *f, struct io *io, u64 *position)
{
	char word[sizeof(READY)] = "";
	size_t n = io->length;
	long error;

	(void)f, (void)position;
	if (n > sizeof(word))
		return -EINVAL;
	io_get(io, word, n);
	if (n == sizeof(word) && word[n - 1] == '\n')
		word[n - 1] = 0;
	if (memcmp(word, READY, sizeof(word)))
		return -EINVAL;
	error = host_call(PV_READY, 0, 0, 0, 0, 0, 0);
	branch_check();
	return error < 0 ? error : (long)n;
}

static u32 branch_poll(struct file *f, struct waiter *w, u32 wanted)
{
	poll_add(&watchers, w);
	return ((is_news(f->data) ? POLLIN | POLLRDNORM : 0) | POLLOUT | POLLWRNORM) & wanted;
}

static void branch_release(struct file *f)
{
	kfree(f->data);
}

static const struct file_ops branch_ops = {
	.kind = "pyrovm",
	.read = branch_read,
	.write = branch_write,
	.poll = branch_poll,
	.release = branch_release,
};

long branch_open(struct file *f)
{
	f->data = kalloc(sizeof(struct branch_file));
	if (!f->data)
		return -ENOMEM;
	f->ops = &branch_ops;
	return 0;
}
