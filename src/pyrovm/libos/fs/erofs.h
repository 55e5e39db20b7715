/* The root image, as its readers share it. */
#ifndef PYROVM_LIBOS_FS_EROFS_H
#define PYROVM_LIBOS_FS_EROFS_H

#include "fs.h"

#define BLOCK_SHIFT 12
#define BLOCK (1UL << BLOCK_SHIFT)

/* -EUCLEAN, and what it is about in erofs_problem. */
long erofs_damaged(const char *what);
/* Where the byte at offset is, which must be below the file's size. */
const u8 *erofs_at(const struct image_data *d, u64 offset);

#endif
