/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lend.c - checked bytes without a copy: a short mapping of the image
 *
 * Reading an image into a buffer costs a reader a third of its speed.  So a read maps what it needs,
 * compares the chunks' hashes on the mapping itself, and the kernel copies from there.  The mapping ends
 * with the loan: what stays mapped would count as our memory, and would keep the image in use.
 *
 * What was compared is what is copied: the same page of the page cache, unless the kernel drops it in the
 * microseconds between and then reads other bytes from the disk.  That is as unlikely as a bit that
 * changes in a buffer of our own in that time, so a copy would guard against nothing.
 *
 * Touching a mapped page that cannot be read, or that lies behind the end of a file that somebody cut off,
 * is SIGBUS.  While a thread compares, the handler puts a page of zeros in such a page's place: then the
 * hash is wrong, and the block is built again as after any other rot.
 */
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#include "replica/internal.h"
#include "weightfs/base.h"

#define COPY_MAX	0u

static _Thread_local uint8_t *volatile guarded;	/* what this thread compares; NULL: nothing */
static _Thread_local volatile size_t guarded_len;
static struct sigaction sigbus_before;
static pthread_once_t sigbus_once = PTHREAD_ONCE_INIT;

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	uintptr_t page = (uintptr_t)info->si_addr & ~(uintptr_t)(sysconf(_SC_PAGESIZE) - 1);
	int saved = errno;

	(void)context;
	if (guarded && page - (uintptr_t)guarded < guarded_len &&
	    mmap((void *)page, (size_t)sysconf(_SC_PAGESIZE), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		 0) != MAP_FAILED) {
		errno = saved;
		return;
	}
	sigaction(sig, &sigbus_before, NULL);	/* not ours: happens again, to whom it belongs */
	errno = saved;
}

static void catch_sigbus(void)
{
	struct sigaction sa = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_NODEFER };

	sigaction(SIGBUS, &sa, &sigbus_before);
}

void wfs_loan_end(struct wfs_loan *l)
{
	if (l->map)
		munmap(l->map, l->map_len);
	wfs_buf_free(&l->own);
	*l = (struct wfs_loan){ 0 };
}

/* The chunks at p against their hashes; SIZE_MAX: they match, else the first that does not. */
static size_t compare(uint8_t *p, size_t len, const uint8_t *hashes)
{
	size_t bad = SIZE_MAX;

	guarded_len = len;
	guarded = p;
	for (size_t at = 0; at < len && bad == SIZE_MAX; at += WFS_CHUNK_SIZE)
		if (wfs_xxh3(p + at, WFS_MIN(len - at, (size_t)WFS_CHUNK_SIZE)) !=
		    wfs_get64(hashes + at / WFS_CHUNK_SIZE * 8))
			bad = at;
	guarded = NULL;
	return bad;
}

static bool all_zero_chunks(const struct wfs_image *img, const uint8_t *hashes, size_t len)
{
	for (size_t at = 0; at < len; at += WFS_CHUNK_SIZE)
		if (wfs_get64(hashes + at / WFS_CHUNK_SIZE * 8) != img->zero_hash)
			return false;
	return true;
}

static int lend_mapped(struct wfs_image *img, struct wfs_loan *l, size_t len, uint64_t off, struct wfs_err *err)
{
	uint8_t hashes[(WFS_CHUNKS_PER_BLOCK + 1) * 8];
	uint64_t first = off / WFS_CHUNK_SIZE, start = first * WFS_CHUNK_SIZE;
	uint64_t end = WFS_MIN((off + len + WFS_CHUNK_SIZE - 1) / WFS_CHUNK_SIZE * WFS_CHUNK_SIZE, img->size);
	size_t n = (size_t)((end - start + WFS_CHUNK_SIZE - 1) / WFS_CHUNK_SIZE), bad;
	bool zero;
	int r;

	r = wfs_image_hashes(img, first, n, hashes, err);
	if (r < 0)
		return r;
	zero = all_zero_chunks(img, hashes, end - start);	/* a hole would be filled into the page cache */
	pthread_once(&sigbus_once, catch_sigbus);
	l->map_len = end - start;
	l->map = mmap(NULL, l->map_len, PROT_READ, zero ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED,
		      zero ? -1 : img->data_fd, zero ? 0 : (off_t)start);
	if (l->map == MAP_FAILED) {
		l->map = NULL;
		return wfs_fail_sys(err, "map cached %s", img->label);
	}
	l->data = (uint8_t *)l->map + (off - start);
	bad = zero ? SIZE_MAX : compare(l->map, l->map_len, hashes);
	if (bad == SIZE_MAX)
		return 0;
	wfs_image_drop_block(img, (uint32_t)((start + bad) >> WFS_BLOCK_SHIFT));
	return -EAGAIN;
}

static int lend(struct wfs_model *m, size_t i, struct wfs_loan *l, size_t len, uint64_t off, struct wfs_err *err)
{
	uint32_t first = (uint32_t)(off >> WFS_BLOCK_SHIFT), last = (uint32_t)((off + len - 1) >> WFS_BLOCK_SHIFT);
	struct wfs_image *img = m->images[i];
	int r = wfs_image_open(img, err);

	if (r < 0)
		return r;
	if (!img->complete)
		wfs_ahead_note(m, i, first, last);
	for (uint32_t b = first; b <= last; b++)
		if (!wfs_image_has(img, b))
			return -EAGAIN;
	img->r->n_blocks_read++;
	return lend_mapped(img, l, len, off, err);
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
