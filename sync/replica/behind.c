/* SPDX-License-Identifier: Apache-2.0 */
/*
 * behind.c - what a mount's kernel pages hold, an image's pages need not
 *
 * Bytes that we answer stay in the kernel's pages of the mount, for ever as far as we are concerned.  The
 * image's own pages are of use for the next version, which is built from them.  While that goes on
 * memory has a version three times: the mount's pages, the old image, the new one.  So the image's pages
 * of a version that does not fit so often are dropped, a window at a time when all of it was answered.
 *
 * Windows are counted, not watched: the kernel asks for a page once as long as it keeps it, whatever the
 * order.  A wrong count costs a read of the disk.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replica/internal.h"
#include "weightfs/base.h"

#define WINDOW	(8u << WFS_BLOCK_SHIFT)		/* larger than a folio: those go as a whole or not at all */
#define FITS	4u				/* times in memory: three, and somebody else's */

size_t wfs_behind_windows(uint64_t size)
{
	return (size_t)((size + WINDOW - 1) / WINDOW);
}

/* What programs could still have.  Unknown: without an end. */
static uint64_t memory_available(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	unsigned long long kb = UINT64_MAX >> 10;
	char line[128];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "MemAvailable: %llu", &kb) == 1)
			break;
	if (f)
		fclose(f);
	return (uint64_t)kb << 10;
}

static bool fits(const struct wfs_model *m)
{
	uint64_t size = 0;

	for (size_t i = 0; i < m->v.n_files; i++)
		size += m->v.files[i].size;
	return size <= memory_available() / FITS;
}

static void count(struct wfs_model *m, struct wfs_image *img, size_t w, uint32_t len)
{
	uint64_t off = (uint64_t)w * WINDOW;
	uint32_t whole = (uint32_t)WFS_MIN((uint64_t)WINDOW, img->size - off);

	if (atomic_fetch_add(&img->given[w], len) + len < whole)
		return;
	atomic_store(&img->given[w], 0);
	if (!fits(m))
		posix_fadvise(img->data_fd, (off_t)off, whole, POSIX_FADV_DONTNEED);
}

void wfs_behind_note(struct wfs_model *m, struct wfs_image *img, size_t len, uint64_t off)
{
	while (len) {
		uint32_t n = (uint32_t)WFS_MIN((uint64_t)len, WINDOW - off % WINDOW);

		count(m, img, (size_t)(off / WINDOW), n);
		off += n;
		len -= n;
	}
}
