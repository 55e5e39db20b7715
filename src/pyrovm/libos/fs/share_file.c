/* Open files of the host's folders. */
#include "share.h"

static long transfer(struct file *f, struct io *io, u64 *position, enum pv_call call)
{
	struct share_file *open = f->data;
	struct share_request *r = share_request_create();
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
	long error = by_handle(f, PV_FILE_TRUNCATE, size);

	if (!error)
		f->inode->size = size;
	return error;
}

static long share_sync(struct file *f)
{
	return by_handle(f, PV_FILE_SYNC, 0);
}

/* Mapped pages are copies, made as they are asked for; they cannot be shared with the host. */
static long share_page(struct file *f, u64 offset, bool write, u64 *gpa)
{
	struct inode *i = f->inode;
	struct share_file *open = f->data;
	u64 *slot;
	struct pv_iovec *piece;
	long n;

	if (write)
		return -ENODEV;
	if (offset >= ALIGN_UP(i->size, PAGE_SIZE))
		return -ENXIO;
	if (!ram_page(&i->ram, offset >> PAGE_SHIFT)) {
		slot = ram_slot(&i->ram, offset >> PAGE_SHIFT);
		piece = slot ? kalloc(sizeof(*piece)) : NULL;
		if (!piece)
			return -ENOMEM;
		*piece = (struct pv_iovec){ *slot, PAGE_SIZE };
		n = host_call(PV_READ, open->handle, virt_to_phys(piece), 1, offset, 0, 0);
		kfree(piece);
		if (n < 0) {
			ram_cut(&i->ram, offset >> PAGE_SHIFT, (offset >> PAGE_SHIFT) + 1, false);
			return -EIO;
		}
	}
	*gpa = virt_to_phys(ram_page(&i->ram, offset >> PAGE_SHIFT));
	return 0;
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
