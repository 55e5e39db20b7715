/*
 * /proc and /sys: a table of paths, each with what shows it.
 *
 * Folders are the beginnings of these paths.  /proc/PID/fd and /proc/PID/task are made up as they are
 * looked at.  Nothing is kept: each look-up makes its entry, each open its text.
 */
#include "../calls.h"
#include "proc.h"

static bool is_in(const char *folder, size_t length, const char *path)
{
	return !strncmp(path, folder, length) && (!length || path[length] == '/');
}

static const char *below(const struct place *p, const char *path)
{
	return path + p->length + (p->length > 0);
}

static const struct proc_file *table_of(u32 device, unsigned *count)
{
	*count = device == DEVICE_SYS ? sys_file_count : proc_file_count;
	return device == DEVICE_SYS ? sys_files : proc_files;
}

static bool is_folder(const struct place *p, const char *path)
{
	return !p->file && p->length == strlen(path) && !strncmp(p->path, path, p->length);
}

static u64 number_of(u32 device, const struct place *p)
{
	u64 hash = device;

	for (size_t i = 0; i < p->length; i++)
		hash = hash * 31 + (u8)p->path[i];
	return ((hash * 31 + (u64)(p->fd + 1)) & 0x7fffffff) | 0x10000;
}

long proc_make_entry(struct dentry *dir, const char *name, u32 mode, const struct place *what,
		       struct dentry **found)
{
	struct inode *i = inode_create(&proc_ops, mode, dir->inode->device);
	struct place *p = i ? kalloc(sizeof(*p)) : NULL;

	if (!p) {
		if (i)
			inode_put(i);
		return -ENOMEM;
	}
	*p = *what;
	i->data = p;
	i->number = number_of(i->device, p);
	i->nlink = S_ISDIR(mode) ? 2 : 1;
	*found = dentry_create(dir, name, i);
	return *found ? 0 : -ENOMEM;
}

long proc_number(const char *name)
{
	long n = 0;

	for (; *name >= '0' && *name <= '9' && n < 1 << 30; name++)
		n = n * 10 + *name - '0';
	return *name ? -1 : n;
}

/* /proc/PID/task/TID has what /proc/PID has. */
static long lookup_task(struct dentry *dir, const char *name, struct dentry **found)
{
	struct place p = { .path = "PID", .length = 3, .fd = -1 };
	struct thread *t;

	list_each(t, &threads, all)
		if (t->tid == proc_number(name))
			return proc_make_entry(dir, name, S_IFDIR | 0555, &p, found);
	return -ENOENT;
}

static long lookup_table(struct dentry *dir, const char *name, const char *in_table, struct dentry **found)
{
	const struct place *parent = place_of(dir->inode);
	size_t n = strlen(in_table);
	unsigned count;
	const struct proc_file *table = table_of(dir->inode->device, &count);

	for (unsigned i = 0; i < count; i++) {
		struct place p = { .path = table[i].path, .fd = -1 };
		const char *rest;

		if (!is_in(parent->path, parent->length, p.path))
			continue;
		rest = below(parent, p.path);
		if (strncmp(rest, in_table, n) || (rest[n] && rest[n] != '/'))
			continue;
		p.length = (size_t)(rest + n - p.path);
		p.file = rest[n] || S_ISDIR(table[i].mode) ? NULL : &table[i];
		return proc_make_entry(dir, name, p.file ? table[i].mode : S_IFDIR | 0555, &p, found);
	}
	return -ENOENT;
}

static long proc_lookup(struct dentry *dir, const char *name, struct dentry **found)
{
	const struct place *parent = place_of(dir->inode);

	if (dir->inode->device == DEVICE_PROC) {
		if (is_folder(parent, "PID/fd"))
			return proc_lookup_fd(dir, name, S_IFLNK | 0700, found);
		if (is_folder(parent, "PID/fdinfo"))
			return proc_lookup_fd(dir, name, S_IFREG | 0400, found);
		if (is_folder(parent, "PID/task"))
			return lookup_task(dir, name, found);
		if (!parent->length && proc_number(name) == PROCESS_ID)
			return lookup_table(dir, name, "PID", found);
		if (!parent->length && !strcmp(name, "PID"))
			return -ENOENT;
	}
	return lookup_table(dir, name, name, found);
}

/* ------------------------------------------------------------------------------- folders */

static void put_tasks(struct file *f, struct dirent_sink *to)
{
	struct thread *t;

	list_each(t, &threads, all) { /* in the order of their numbers */
		char name[16];

		if ((u64)t->tid + 2 <= f->position)
			continue;
		format(name, sizeof(name), "%d", t->tid);
		if (!dirent_put(to, name, 0x30000 + (u64)t->tid, (u64)t->tid + 2, 4))
			return;
		f->position = (u64)t->tid + 2;
	}
}

static void put_table(struct file *f, struct dirent_sink *to)
{
	const struct place *p = place_of(f->inode);
	unsigned count;
	const struct proc_file *table = table_of(f->inode->device, &count);

	for (; f->position - 2 < count; f->position++) {
		u64 at = f->position - 2;
		const char *rest = table[at].path, *slash, *before;
		char name[64];

		if (!is_in(p->path, p->length, rest))
			continue;
		rest = below(p, rest);
		slash = strchr(rest, '/');
		format(name, sizeof(name), "%.*s", slash ? (int)(slash - rest) : (int)strlen(rest), rest);
		/* Paths of one folder stand together: each folder once. */
		before = at ? table[at - 1].path : "";
		if (at && is_in(p->path, p->length, before) && slash &&
		    !strncmp(below(p, before), rest, (size_t)(slash - rest) + 1))
			continue;
		if (!strcmp(name, "PID"))
			format(name, sizeof(name), "%d", PROCESS_ID);
		if (!dirent_put(to, name, 0x10000 + at, f->position + 1,
				dirent_type(slash ? S_IFDIR : table[at].mode)))
			return;
	}
}

static long proc_readdir(struct file *f, struct dirent_sink *to)
{
	const struct place *p = place_of(f->inode);

	if (f->position == 0 && dirent_put(to, ".", f->inode->number, 1, 4))
		f->position = 1;
	if (f->position == 1 && dirent_put(to, "..", f->entry->parent->inode->number, 2, 4))
		f->position = 2;
	if (f->position < 2)
		return 0;
	if (f->inode->device == DEVICE_PROC && is_folder(p, "PID/fd"))
		proc_put_fds(f, to, S_IFLNK);
	else if (f->inode->device == DEVICE_PROC && is_folder(p, "PID/fdinfo"))
		proc_put_fds(f, to, S_IFREG);
	else if (f->inode->device == DEVICE_PROC && is_folder(p, "PID/task"))
		put_tasks(f, to);
	else
		put_table(f, to);
	return 0;
}

static long proc_open(struct file *f)
{
	bool is_writing = (f->flags & O_ACCMODE) != O_RDONLY;

	if (is_writing && S_ISREG(f->inode->mode) && !(f->inode->mode & 0222))
		return -EACCES;
	f->ops = S_ISDIR(f->inode->mode) ? &directory_ops : &proc_text_ops;
	return 0;
}

static void proc_destroy(struct inode *i)
{
	kfree(i->data);
}

const struct inode_ops proc_ops = {
	.lookup = proc_lookup,
	.readdir = proc_readdir,
	.readlink = proc_readlink,
	.follow = proc_follow,
	.open = proc_open,
	.destroy = proc_destroy,
};

void mount_at(const char *path, struct inode *i)
{
	struct dentry *under = tree_make(path, S_IFDIR | 0755, 0, NULL);

	if (!under || !S_ISDIR(under->inode->mode))
		panic("no folder for %s", path);
	inode_put(under->inode);
	under->inode = i;
	under->is_mount = true;
	under->from_image = false; /* the entry itself is ours; it stays for ever */
}

static void mount(const char *path, u32 device)
{
	struct inode *i = inode_create(&proc_ops, S_IFDIR | 0555, device);
	struct place *p = i ? kalloc(sizeof(*p)) : NULL;

	if (!p)
		panic("no memory for %s", path);
	*p = (struct place){ .path = "", .fd = -1 };
	i->data = p;
	i->nlink = 2;
	mount_at(path, i);
}

void proc_init(void)
{
	mount("/proc", DEVICE_PROC);
	mount("/sys", DEVICE_SYS);
}
