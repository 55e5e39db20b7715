/* From a path to what it leads to. */
#include <linux/openat2.h>

#include "fs.h"

struct dentry *working_directory;
u32 umask_bits = 022;

long copy_path(const char *path, char **copy)
{
	long n = user_string(path, PATH_MAX_LENGTH);

	if (n < 0)
		return n;
	*copy = kalloc((size_t)n + 1);
	if (!*copy)
		return -ENOMEM;
	memcpy(*copy, path, (size_t)n);
	return 0;
}

static void move_to(struct walk *w, struct dentry *to) /* takes the reference */
{
	dentry_put(w->at);
	w->at = to;
}

static void back_to(struct walk *w, struct dentry *to)
{
	dentry_get(to);
	move_to(w, to);
}

void walk_end(struct walk *w)
{
	dentry_put(w->at);
	w->at = NULL;
}

/* The text of a symbolic link, then the rest of the path. */
static long read_link(struct dentry *link, const char *rest, char **path)
{
	size_t more = strlen(rest), size = link->inode->size ? link->inode->size : PATH_MAX_LENGTH;
	char *joined;
	long n;

	joined = kalloc(size + more + 1);
	if (!joined)
		return -ENOMEM;
	n = link->inode->ops->readlink(link, joined, size);
	if (n <= 0) {
		kfree(joined);
		return n ? n : -ENOENT;
	}
	/* "link" and "link/" differ: what is behind the link begins with its slash. */
	memcpy(joined + n, rest, more + 1);
	*path = joined;
	return 0;
}

static long follow(struct walk *w, struct dentry *link, const char *rest, char **buffer,
		   const char **path)
{
	const struct inode_ops *ops = link->inode->ops;
	struct dentry *to;
	char *joined;
	long error;

	if (++w->links > LINKS_MAX || w->resolve & RESOLVE_NO_SYMLINKS)
		return -ELOOP;
	if (ops->follow) {
		error = w->resolve & RESOLVE_NO_MAGICLINKS ? -ELOOP : ops->follow(link, &to);
		if (!error) {
			move_to(w, to);
			*path = rest;
		}
		if (error != -EINVAL)
			return error;
	}
	error = read_link(link, rest, &joined);
	if (error)
		return error;
	kfree(*buffer);
	*buffer = joined;
	*path = joined;
	if (*joined == '/') {
		if (w->resolve & RESOLVE_BENEATH)
			return -EXDEV;
		back_to(w, w->top);
	}
	return 0;
}

static long go_up(struct walk *w)
{
	if (w->at == w->top && w->resolve & RESOLVE_BENEATH)
		return -EXDEV;
	if (w->at != w->top)
		back_to(w, w->at->parent);
	return 0;
}

static long look_up(struct dentry *dir, const char *name, struct dentry **found)
{
	const struct inode_ops *ops = dir->inode->ops;

	return ops->lookup ? ops->lookup(dir, name, found) : -ENOENT;
}

static long walk_names(struct walk *w, const char *path, u32 flags, char **buffer)
{
	for (;;) {
		struct dentry *next;
		size_t n = 0, slashes = 0;
		bool is_last, is_link;
		long error;

		while (*path == '/')
			path++;
		if (!*path) {
			w->last[0] = 0;
			return w->wants_directory && !S_ISDIR(w->at->inode->mode) ? -ENOTDIR : 0;
		}
		if (!S_ISDIR(w->at->inode->mode))
			return -ENOTDIR;
		while (path[n] && path[n] != '/')
			n++;
		if (n > NAME_MAX_LENGTH)
			return -ENAMETOOLONG;
		memcpy(w->last, path, n);
		w->last[n] = 0;
		path += n;
		while (path[slashes] == '/')
			slashes++;
		is_last = !path[slashes];
		if (is_last) {
			w->wants_directory = slashes > 0;
			if (flags & WALK_PARENT)
				return 0;
			if (flags & WALK_CREATE && slashes)
				return -EISDIR;
		}
		if (!strcmp(w->last, ".") || !strcmp(w->last, "..")) {
			if (is_last)
				w->wants_directory = true;
			error = w->last[1] ? go_up(w) : 0;
			if (error)
				return error;
			continue;
		}
		error = look_up(w->at, w->last, &next);
		if (error == -ENOENT && is_last && flags & WALK_CREATE) {
			w->missing = true;
			return 0;
		}
		if (error)
			return error;
		is_link = S_ISLNK(next->inode->mode);
		if (is_link && (!is_last || slashes || flags & WALK_FOLLOW)) {
			error = follow(w, next, path, buffer, &path);
			dentry_put(next);
			if (error)
				return error;
			continue;
		}
		move_to(w, next);
		if (is_last)
			return w->wants_directory && !S_ISDIR(next->inode->mode) ? -ENOTDIR : 0;
	}
}

static long find_start(struct walk *w, int directory, const char *path, u32 flags)
{
	struct dentry *from = working_directory;

	if (directory != AT_FDCWD && (*path != '/' || w->resolve & (RESOLVE_BENEATH | RESOLVE_IN_ROOT))) {
		struct file *f = fd_get(directory);

		if (!f)
			return -EBADF;
		if (!f->entry || (!S_ISDIR(f->inode->mode) && (*path || !(flags & WALK_EMPTY))))
			return -ENOTDIR;
		from = f->entry;
	}
	w->top = root;
	if (w->resolve & (RESOLVE_BENEATH | RESOLVE_IN_ROOT)) {
		if (*path == '/' && w->resolve & RESOLVE_BENEATH)
			return -EXDEV;
		w->top = from;
	}
	back_to(w, *path == '/' ? w->top : from);
	return 0;
}

static long start_walk(struct walk *w, int directory, const char *path, u32 flags, u32 resolve)
{
	char *buffer = NULL;
	long error;

	*w = (struct walk){ .resolve = resolve };
	if (!*path && !(flags & WALK_EMPTY))
		return -ENOENT;
	error = find_start(w, directory, path, flags);
	if (!error)
		error = walk_names(w, path, flags, &buffer);
	kfree(buffer);
	if (error)
		walk_end(w);
	return error;
}

long walk_path(struct walk *w, int directory, const char *path, u32 flags)
{
	return start_walk(w, directory, path, flags, 0);
}

long walk_resolved(struct walk *w, int directory, const char *path, u32 flags, u32 resolve)
{
	return start_walk(w, directory, path, flags, resolve);
}

long walk_user(struct walk *w, int directory, const char *path, u32 flags)
{
	char *copy;
	long error = copy_path(path, &copy);

	if (error)
		return error;
	error = walk_path(w, directory, copy, flags);
	kfree(copy);
	return error;
}
