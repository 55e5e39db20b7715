#ifndef HARNESS_H
#define HARNESS_H

#include "../../../src/pyrovm/libos/os.h"

void harness_start(void);
/* Map this root image; fs_init() comes after it. */
void harness_image(const void *image, size_t size);
void harness_pages(u64 n); /* so much memory is left */

#endif
