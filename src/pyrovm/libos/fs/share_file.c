/* Open files of the host's folders. */
#include "share.h"

static long transfer(struct file *f, struct io *io, u64 *position, enum pv_call call)
{
	struct share_file *open = f->data;
	struct share_request *r = share_map_flush(f, *position, io->length) ? NULL : share_request_create();
	u64 offset = call == PV_WRITE && f->flags & O_APPEND ? FOREVER : *position;
	size_t n;
	long count, result;

	if (!r)
		return -ENOMEM;
	count = io_to_host(io, call == PV_READ, r->pieces, PV_IOV_MAX, &n);
	result = count < 0 ? count : host_call(call, open->handle, virt_to_phys(r->pieces), (u64)count,
					       offset, 0, 0);
	kfree(r);
	if (result <= 0)
		return result;
	io_advance(io, (size_t)result);
	if (offset == FOREVER) {
		share_refresh(f->entry, f->inode, f);
		*position = f->inode->size;
	} else {
		*position += (u64)result;
	}
	f->inode->size = MAX(f->inode->size, *position);
	if (call == PV_WRITE)
		share_map_changed(f, *position - (u64)result, (u64)result);
	return result;
}

static long share_read(struct file *f, struct io *io, u64 *position)
{
	return transfer(f, io, position, PV_READ);
}

static long share_write(struct file *f, struct io *io, u64 *position)
{
	return transfer(f, io, position, PV_WRITE);
}

static long share_seek(struct file *f, s64 offset, int whence)
{
	long error = whence == SEEK_END ? share_refresh(f->entry, f->inode, f) : 0;

	return error ? error : file_seek(f, offset, whence);
}

static long by_handle(struct file *f, enum pv_file_operation operation, u64 offset)
{
	struct share_file *open = f->data;
	struct share_request *r = share_request_create();
	long error;

	if (!r)
		return -ENOMEM;
	r->args.offset = offset;
	error = share_ask(r, operation, open->handle);
	kfree(r);
	return error;
}

static long share_truncate_file(struct file *f, u64 size)
{
	u64 old = f->inode->size;
	long error = share_map_flush(f, 0, size);

	if (!error)
		error = by_handle(f, PV_FILE_TRUNCATE, size);
	if (error)
		return error;
	f->inode->size = size;
	if (size < old)
		share_map_changed(f, size, old - size);
	return 0;
}

static long share_sync(struct file *f)
{
	long error = share_map_flush(f, 0, FOREVER);

	return error ? error : by_handle(f, PV_FILE_SYNC, 0);
}

struct host_dirent { /* linux_dirent64 */
	u64 number;
	u64 next;
	u16 length;
	u8 type;
	char name[];
} __attribute__((packed));

static long share_readdir(struct file *f, struct dirent_sink *to)
{
	struct share_file *open = f->data;
	struct share_request *r = share_request_create();
	long n;

	if (!r)
		return -ENOMEM;
	do {
		r->args.offset = f->position;
		r->args.gpa = virt_to_phys(r->path);
		r->args.length = sizeof(r->path);
		n = share_ask(r, PV_FILE_READDIR, open->handle);
		n = MIN(n, (long)sizeof(r->path));
		for (long at = 0; at + (long)sizeof(struct host_dirent) < n;) {
			const struct host_dirent *e = (struct host_dirent *)(r->path + at);

			if (e->length <= sizeof(*e) || at + e->length > n ||
			    r->path[at + e->length - 1]) {
				n = -EIO;
				break;
			}
			if (!dirent_put(to, e->name, e->number, e->next, e->type))
				break;
			f->position = e->next;
			at += e->length;
		}
	} while (n > 0 && !to->is_full);
	kfree(r);
	return MIN(n, 0);
}

static void share_release(struct file *f)
{
	struct share_file *open = f->data;

	share_map_release(open);
	host_call(PV_CLOSE, open->handle, 0, 0, 0, 0, 0);
	kfree(open);
}

static const struct file_ops share_file_ops = {
	.kind = "file",
	.read = share_read,
	.write = share_write,
	.seek = share_seek,
	.poll = file_poll_always,
	.truncate = share_truncate_file,
	.sync = share_sync,
	.page = share_page,
	.release = share_release,
	.has_position = true,
};

static const struct file_ops share_directory_ops = {
	.kind = "directory",
	.seek = share_seek,
	.readdir = share_readdir,
	.sync = share_sync,
	.poll = file_poll_always,
	.release = share_release,
	.has_position = true,
};

long share_open(struct file *f)
{
	struct share_file *open = kalloc(sizeof(*open));
	long handle;

	if (!open)
		return -ENOMEM;
	handle = share_open_host(f->entry, NULL, f->flags & (O_ACCMODE | O_APPEND | O_DIRECTORY | O_NOFOLLOW), 0);
	if (handle < 0) {
		kfree(open);
		return handle;
	}
	open->handle = (u32)handle;
	f->data = open;
	f->ops = S_ISDIR(f->inode->mode) ? &share_directory_ops : &share_file_ops;
	return 0;
}
