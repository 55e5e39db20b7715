/* The entries of one directory in memory: by name, and in the order in which they were made. */
#include "fs.h"

#define BUCKETS_FIRST 8

struct directory *directory_create(void)
{
	struct directory *d = kalloc(sizeof(*d));

	if (!d)
		return NULL;
	list_init(&d->order);
	return d;
}

void directory_destroy(struct directory *d)
{
	if (!d)
		return;
	kfree(d->buckets);
	kfree(d);
}

struct dentry *directory_find(struct directory *d, const char *name)
{
	u32 hash = name_hash(name);
	struct dentry *entry;

	if (!d->bucket_count)
		return NULL;
	for (entry = d->buckets[hash & (d->bucket_count - 1)]; entry; entry = entry->next)
		if (entry->hash == hash && !strcmp(entry->name, name))
			return entry;
	return NULL;
}

static long grow(struct directory *d)
{
	u32 count = d->bucket_count ? d->bucket_count * 4 : BUCKETS_FIRST;
	struct dentry **buckets = kalloc(count * sizeof(struct dentry *)), *entry;

	if (!buckets)
		return -ENOSPC;
	list_each(entry, &d->order, order) {
		struct dentry **bucket = &buckets[entry->hash & (count - 1)];

		entry->next = *bucket;
		*bucket = entry;
	}
	kfree(d->buckets);
	d->buckets = buckets;
	d->bucket_count = count;
	return 0;
}

long directory_reserve(struct directory *d)
{
	return d->entry_count >= d->bucket_count * 2 ? grow(d) : 0;
}

long directory_insert(struct directory *d, struct dentry *entry)
{
	struct dentry **bucket;
	long error = directory_reserve(d);

	if (error)
		return error;
	bucket = &d->buckets[entry->hash & (d->bucket_count - 1)];
	entry->next = *bucket;
	*bucket = entry;
	entry->id = ++d->last_id;
	list_add(&d->order, &entry->order);
	d->entry_count++;
	entry->is_hashed = true;
	dentry_get(entry);
	return 0;
}

void directory_remove(struct directory *d, struct dentry *entry)
{
	struct dentry **at = &d->buckets[entry->hash & (d->bucket_count - 1)];

	while (*at != entry)
		at = &(*at)->next;
	*at = entry->next;
	list_remove(&entry->order);
	d->entry_count--;
	entry->is_hashed = false;
	dentry_put(entry);
}

void directory_purge(struct directory *d)
{
	struct dentry *entry, *after;

	list_each_safe(entry, after, &d->order, order)
		if (!entry->inode)
			directory_remove(d, entry);
}
