/* /proc/PID/fd and fdinfo: what is open, and where links of /proc lead. */
#include "proc.h"

#define O_LARGEFILE_BIT 0100000 /* which all that has a name is opened with */

long proc_lookup_fd(struct dentry *dir, const char *name, u32 mode, struct dentry **found)
{
	struct place p = *place_of(dir->inode);
	struct file *f;

	p.fd = (int)proc_number(name);
	f = fd_get(p.fd);
	return f ? proc_make_entry(dir, name, mode, &p, found) : -ENOENT;
}

void proc_put_fds(struct file *f, struct dirent_sink *to, u32 mode)
{
	for (; f->position - 2 < fd_count(); f->position++) {
		char name[16];

		if (!fd_get((int)f->position - 2))
			continue;
		format(name, sizeof(name), "%lu", f->position - 2);
		if (!dirent_put(to, name, 0x20000 + f->position, f->position + 1, dirent_type(mode)))
			return;
	}
}

/* What Linux shows of each kind of file; where it is mounted is not told apart. */
size_t proc_show_fdinfo(int fd, char *to, size_t size)
{
	struct file *f = fd_get(fd);
	u32 flags;

	if (!f)
		return 0;
	flags = f->flags | (fd_is_close_on_exec(fd) ? O_CLOEXEC : 0) | (f->entry ? O_LARGEFILE_BIT : 0);
	return format(to, size, "pos:\t%lu\nflags:\t0%o\nmnt_id:\t20\nino:\t%lu\n",
		      f->ops->has_position ? f->position : 0, flags, f->inode ? f->inode->number : 0);
}

long proc_readlink(struct dentry *entry, char *to, size_t size)
{
	const struct place *p = place_of(entry->inode);
	struct file *f = p->fd >= 0 ? fd_get(p->fd) : NULL;
	char *text;
	size_t n;

	if (p->fd >= 0 && !f)
		return -ENOENT;
	if (f) {
		const char *path = file_path(f);

		n = MIN(strlen(path), size);
		memcpy(to, path, n);
		return (long)n;
	}
	text = kalloc(PATH_MAX_LENGTH);
	if (!text)
		return -ENOMEM;
	n = MIN(p->file->show(text, PATH_MAX_LENGTH), size);
	memcpy(to, text, n);
	kfree(text);
	return (long)n;
}

static struct file *proc_reopen(struct inode *i)
{
	struct file *f = i->data;

	file_get(f);
	return f;
}

static void reopen_destroy(struct inode *i)
{
	file_put(i->data);
}

/* What is behind a descriptor without a name, to be opened by /proc/self/fd: the same open file. */
static const struct inode_ops reopen_ops = { .reopen = proc_reopen, .destroy = reopen_destroy };

long proc_follow(struct dentry *entry, struct dentry **to)
{
	const struct place *p = place_of(entry->inode);
	struct file *f = p->fd >= 0 ? fd_get(p->fd) : NULL;
	struct inode *i;

	if (p->fd < 0)
		return -EINVAL; /* an ordinary link */
	if (!f)
		return -ENOENT;
	if (f->entry) {
		dentry_get(f->entry);
		*to = f->entry;
		return 0;
	}
	i = inode_create(&reopen_ops, f->inode ? f->inode->mode : 0600, f->inode ? f->inode->device : DEVICE_ANON);
	if (!i)
		return -ENOMEM;
	i->number = f->inode ? f->inode->number : i->number;
	i->size = file_size(f);
	i->data = f;
	file_get(f);
	*to = dentry_create(entry->parent, entry->name, i);
	return *to ? 0 : -ENOMEM;
}
