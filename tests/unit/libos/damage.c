/*
 * Mutates an image (argv[1]) as often as argv[2] says, from seed argv[3], and looks at all of it each
 * time: names, links, contents.  What is wrong in it must come back as an error, and nothing else.
 */
#include "../../../src/pyrovm/libos/fs/fs.h"
#include "harness.h"

extern int printf(const char *text, ...);
extern long strtol(const char *s, char **end, int base);
extern void *malloc(size_t n);
extern int open(const char *path, int flags, ...);
extern long read(int fd, void *to, size_t n);

#define IMAGE_MAX (4 << 20)
#define DEPTH_MAX 6
#define LOOKS_MAX 400 /* entries in one image: damaged folders may contain each other */

static u64 state;
static u64 looks, errors, entries;
static u8 buffer[1 << 16];

static u64 next(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static void note(long result)
{
	errors += result < 0 && result != -ENOTEMPTY;
	if (result < 0 && (result == -EFAULT || result < -4095))
		panic("a strange error: %ld", result);
}

static void read_file(struct dentry *d)
{
	struct file *f;
	long error = open_entry(d, O_RDONLY, &f);
	u64 gpa;

	note(error);
	if (error)
		return;
	note(file_read_at(f, buffer, sizeof(buffer), next() % (file_size(f) + 1)));
	note(file_read_at(f, buffer, sizeof(buffer), file_size(f) & ~PAGE_MASK));
	if (f->ops->page && f->ops->page(f, 0, false, &gpa) == 0)
		memcpy(buffer, phys_to_virt(gpa), PAGE_SIZE);
	if (file_size(f) < sizeof(buffer) && f->ops->truncate) {
		note(f->ops->truncate(f, file_size(f) / 2));
		note(file_read_at(f, buffer, sizeof(buffer), 0));
	}
	file_put(f);
}

static void look_into(struct dentry *dir, int depth);

static void look_at(struct dentry *dir, const char *name, int depth)
{
	struct dentry *found;
	long error = dir->inode->ops->lookup(dir, name, &found);

	note(error);
	entries++;
	if (error || ++looks > LOOKS_MAX) {
		if (!error)
			dentry_put(found);
		return;
	}
	if (S_ISDIR(found->inode->mode))
		look_into(found, depth + 1);
	else if (S_ISLNK(found->inode->mode))
		note(found->inode->ops->readlink(found, (char *)buffer, sizeof(buffer)));
	else
		read_file(found);
	if (next() % 4 == 0 && dir->inode->ops->unlink)
		note(dir->inode->ops->unlink(found, S_ISDIR(found->inode->mode)));
	dentry_put(found);
}

static void look_into(struct dentry *dir, int depth)
{
	u8 records[4096];
	struct dirent_sink sink;
	struct file *f;

	if (depth > DEPTH_MAX || open_entry(dir, O_RDONLY | O_DIRECTORY, &f))
		return;
	do {
		sink = (struct dirent_sink){ .at = records, .end = records + sizeof(records) };
		note(f->ops->readdir(f, &sink));
		for (size_t at = 0; at < sink.written && looks < LOOKS_MAX; at += *(u16 *)(records + at + 16)) {
			const char *name = (char *)records + at + 19;

			if (strcmp(name, ".") && strcmp(name, ".."))
				look_at(dir, name, depth);
		}
	} while (sink.written && looks < LOOKS_MAX);
	file_put(f);
}

int main(int argc, char **argv)
{
	u8 *good = malloc(IMAGE_MAX), *bad = malloc(IMAGE_MAX);
	long size = read(open(argv[1], O_RDONLY), good, IMAGE_MAX), times = strtol(argv[2], NULL, 10);
	u64 refused = 0, damaged = 0;

	(void)argc;
	state = (u64)strtol(argv[3], NULL, 10) * 2654435761u + 1;
	harness_start();
	for (long i = 0; i < times; i++) {
		u64 n = i ? next() % 8 + 1 : 0, cut = i && next() % 10 == 0 ? next() % (u64)size : (u64)size;

		memcpy(bad, good, (size_t)size);
		for (; n > 0; n--) {
			/* Mostly where the image tells about itself, and often extreme values. */
			u64 at = 1024 + next() % (next() % 4 ? (u64)(size - 1024) : 128);

			bad[at] = next() % 3 ? (u8)next() : (u8[]){ 0, 0xff, 0x7f, 0x80 }[next() % 4];
		}
		harness_image(bad, cut);
		looks = errors = 0;
		if (tree_init()) {
			refused++;
			continue;
		}
		look_into(root, 0);
		if (i == 0 && errors)
			panic("the undamaged image gave %lu errors, last: %s", errors, erofs_problem);
		damaged += errors > 0;
	}
	printf("%ld %lu %lu %lu\n", times, refused, damaged, entries);
	return 0;
}
