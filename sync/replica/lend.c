/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lend.c - checked bytes in a buffer of the thread that answers
 *
 * A chunk of 64 KiB is copied from the image and its hash compared while it is in the processor's cache.
 * Mapping the image instead spares the copy and costs as much again: a fault for every 16 pages, pages
 * pinned one by one when the kernel copies from them, and other processors interrupted when the mapping
 * ends.  Measured side by side the two are equal, and here nothing can be SIGBUS, and what was compared
 * is what is answered.  The buffer is one huge page, which is pinned at once.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "replica/internal.h"
#include "weightfs/base.h"

#define BUFFER	(2u << 20)	/* a huge page; a read is half of it at most */

/* Freed with its thread: any thread may come here, also those of libfuse. */
static pthread_once_t buffer_once = PTHREAD_ONCE_INIT;
static pthread_key_t buffer_key;

static void make_buffer_key(void)
{
	pthread_key_create(&buffer_key, free);
}

static void *thread_buffer(void)
{
	void *p;

	pthread_once(&buffer_once, make_buffer_key);
	p = pthread_getspecific(buffer_key);
	if (p || posix_memalign(&p, BUFFER, BUFFER) != 0)
		return p;
	madvise(p, BUFFER, MADV_HUGEPAGE);
	pthread_setspecific(buffer_key, p);
	return p;
}

void wfs_loan_end(struct wfs_loan *l)
{
	wfs_buf_free(&l->own);
	l->data = NULL;
}

static int lend(struct wfs_model *m, size_t i, struct wfs_loan *l, size_t len, uint64_t off, struct wfs_err *err)
{
	uint32_t first = (uint32_t)(off >> WFS_BLOCK_SHIFT), last = (uint32_t)((off + len - 1) >> WFS_BLOCK_SHIFT);
	struct wfs_image *img = m->images[i];
	void *buf = thread_buffer();
	int r = wfs_image_open(img, err);

	if (r < 0)
		return r;
	if (!buf)
		return wfs_fail(err, -ENOMEM, "out of memory");
	if (!img->complete)
		wfs_ahead_note(m, i, first, last);
	l->data = buf;
	r = wfs_image_read(img, buf, len, off, err);
	if (r == 0)
		wfs_behind_note(m, img, len, off);
	return r;
}

int wfs_model_lend(struct wfs_model *m, size_t i, struct wfs_loan *l, size_t len, uint64_t off, struct wfs_err *err)
{
	const struct wfs_file *f = &m->v.files[i];
	int r;

	assert(i < m->v.n_files && len && len <= WFS_BLOCK_SIZE && off <= f->size && len <= f->size - off);
	*l = (struct wfs_loan){ 0 };
	if (f->whole)
		r = wfs_model_small(m, i, &l->own, err);
	else
		r = lend(m, i, l, len, off, err);
	if (r == 0 && f->whole)
		l->data = l->own.data + off;
	if (r < 0)
		wfs_loan_end(l);
	return r;
}
