/* The program's buffers, in pieces. */
#include "fs.h"

#define IO_MAX 0x7ffff000UL /* bytes in one call, as Linux has it */

void io_init(struct io *io, struct iovec *pieces, unsigned count)
{
	*io = (struct io){ .pieces = pieces, .count = count };
	for (unsigned i = 0; i < count; i++) {
		pieces[i].iov_len = MIN(pieces[i].iov_len, IO_MAX - io->length);
		io->length += pieces[i].iov_len;
	}
}

/* How many bytes at the start are accessible; pages are tried one by one only after a failure. */
static size_t accessible(const char *at, size_t n, bool write)
{
	size_t good = 0;

	if (!user_check(at, n, write))
		return n;
	while (good < n) {
		size_t in_page = PAGE_SIZE - ((u64)(at + good) & PAGE_MASK);

		if (user_check(at + good, MIN(in_page, n - good), write))
			break;
		good += MIN(in_page, n - good);
	}
	return good;
}

long io_check(struct io *io, bool write)
{
	size_t wanted = io->length;

	io->length = 0;
	for (unsigned i = 0; i < io->count && io->length < wanted; i++) {
		size_t n = io->pieces[i].iov_len, good = accessible(io->pieces[i].iov_base, n, write);

		io->length += good;
		io->pieces[i].iov_len = good;
		if (good < n) {
			io->count = i + 1;
			break;
		}
	}
	return wanted && !io->length ? -EFAULT : 0;
}

static size_t step(struct io *io, size_t n)
{
	while (io->count && !io->pieces->iov_len) {
		io->pieces++;
		io->count--;
	}
	return io->count ? MIN(n, io->pieces->iov_len) : 0;
}

static void went(struct io *io, size_t n)
{
	io->pieces->iov_base = (char *)io->pieces->iov_base + n;
	io->pieces->iov_len -= n;
	io->length -= n;
}

size_t io_put(struct io *io, const void *from, size_t n)
{
	size_t done = 0, piece;

	while (done < n && (piece = step(io, n - done)) > 0) {
		memcpy(io->pieces->iov_base, (const char *)from + done, piece);
		went(io, piece);
		done += piece;
	}
	return done;
}

size_t io_get(struct io *io, void *to, size_t n)
{
	size_t done = 0, piece;

	while (done < n && (piece = step(io, n - done)) > 0) {
		memcpy((char *)to + done, io->pieces->iov_base, piece);
		went(io, piece);
		done += piece;
	}
	return done;
}

size_t io_clear(struct io *io, size_t n)
{
	size_t done = 0, piece;

	while (done < n && (piece = step(io, n - done)) > 0) {
		memset(io->pieces->iov_base, 0, piece);
		went(io, piece);
		done += piece;
	}
	return done;
}

void io_advance(struct io *io, size_t n)
{
	size_t piece;

	while (n > 0 && (piece = step(io, n)) > 0) {
		went(io, piece);
		n -= piece;
	}
}

/* Our own memory is one piece: sendfile() and its like have their buffers there. */
static long to_host(void *at, size_t n, bool write, struct pv_iovec *pieces, unsigned max)
{
	if ((u64)at < PV_PHYSMAP || (u64)at >= PV_LIBOS_VA)
		return user_to_host(at, n, write, pieces, max);
	pieces[0] = (struct pv_iovec){ virt_to_phys(at), n };
	return 1;
}

long io_to_host(struct io *io, bool write, struct pv_iovec *pieces, unsigned max, size_t *n)
{
	unsigned count = 0;

	*n = 0;
	for (unsigned i = 0; i < io->count && count < max && *n < PV_IO_MAX; i++) {
		size_t length = MIN(io->pieces[i].iov_len, PV_IO_MAX - *n), got = 0;
		long added;

		if (!length)
			continue;
		added = to_host(io->pieces[i].iov_base, length, write, pieces + count, max - count);
		if (added < 0)
			return count ? (long)count : added;
		for (long k = 0; k < added; k++)
			got += pieces[count + k].length;
		count += (unsigned)added;
		*n += got;
		if (got < length)
			break;
	}
	return (long)count;
}
