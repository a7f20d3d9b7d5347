/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image.c - one file of one version on the local disk, filled block by block
 *
 *   images/<table>/data   byte for byte the file, final size from the start, sparse
 *   images/<table>/map    header (4096), a presence byte a block, then 16 XXH3-64 a block,
 *                         one for each 64 KiB
 *
 * 1. Bytes are written before their hashes, hashes before the presence byte: a killed process
 *    leaves no claim without bytes.  After power loss anything may be missing, so a map that is
 *    only `building` (or `complete` in an earlier boot) is a claim to be checked, block by
 *    block, against the table.
 * 2. `durable` is written after data and map were synced, and is trusted for ever.
 * 3. No read returns bytes whose chunk hash was not just compared.
 * 4. A failed sync throws the files away: the kernel may have dropped what it could not write.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "replica/internal.h"
#include "weightfs/base.h"
#include "weightfs/io.h"
#include "weightfs/log.h"

#define MAP_HEADER	4096u
#define MAP_MAGIC	"WFSMAP01"
#define HASHES_LEN	(WFS_CHUNKS_PER_BLOCK * 8u)

enum { MAP_BUILDING, MAP_COMPLETE, MAP_DURABLE };

static uint64_t hashes_off(const struct wfs_image *img, uint32_t b)
{
	uint64_t presence = ((uint64_t)img->n_blocks + 4095) & ~4095ull;

	return MAP_HEADER + presence + (uint64_t)b * HASHES_LEN;
}

static uint32_t chunks_of(uint32_t len)
{
	return (len + WFS_CHUNK_SIZE - 1) / WFS_CHUNK_SIZE;
}

uint32_t wfs_image_block_len(const struct wfs_image *img, uint32_t b)
{
	uint64_t off = (uint64_t)b << WFS_BLOCK_SHIFT;

	return (uint32_t)WFS_MIN((uint64_t)WFS_BLOCK_SIZE, img->size - off);
}

/* The kernel's boot id tells whether the page cache that we wrote into is still this one. */
static void boot_id(uint8_t out[36])
{
	WFS_AUTO(wfs_close_fd) int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

	memset(out, '?', 36);
	if (fd < 0 || read(fd, out, 36) != 36)
		memset(out, '?', 36);
}

static void image_path(const struct wfs_image *img, const char *file, char out[WFS_OBJECT_NAME])
{
	snprintf(out, WFS_OBJECT_NAME, "images/%s%s%s", wfs_hex(&img->id).s, *file ? "/" : "", file);
}

static int write_header(struct wfs_image *img, uint8_t state, struct wfs_err *err)
{
	uint8_t h[128] = MAP_MAGIC;

	h[8] = state;
	boot_id(h + 16);
	wfs_put64(h + 64, img->size);
	wfs_put32(h + 72, img->n_blocks);
	return wfs_pwrite(img->map_fd, h, sizeof(h), 0, err);
}

/* The state a map claims; MAP_BUILDING for one of an earlier boot; -1: not a map of this image. */
static int read_header(const struct wfs_image *img, int fd)
{
	uint8_t h[128], boot[36];
	struct stat st;

	if (fstat(fd, &st) < 0 || (uint64_t)st.st_size != hashes_off(img, img->n_blocks))
		return -1;
	if (wfs_pread(fd, h, sizeof(h), 0, NULL) < 0 || memcmp(h, MAP_MAGIC, 8) != 0)
		return -1;
	if (wfs_get64(h + 64) != img->size || wfs_get32(h + 72) != img->n_blocks || h[8] > MAP_DURABLE)
		return -1;
	if (h[8] != MAP_COMPLETE)
		return h[8];
	boot_id(boot);
	if (boot[0] == '?' || memcmp(boot, h + 16, 36) != 0)
		return MAP_BUILDING;
	return h[8];
}

static uint64_t zero_chunk_hash(void)
{
	static const uint8_t zeros[WFS_CHUNK_SIZE];

	return wfs_xxh3(zeros, sizeof(zeros));
}

/* What stands where a file of ours belongs and is none, a link, a fifo or a directory, is taken away. */
static int open_own(const struct wfs_image *img, const char *file, struct wfs_err *err)
{
	int dir = img->r->cache.dir, fd;
	char name[WFS_OBJECT_NAME];
	struct stat st = { 0 };

	image_path(img, file, name);
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISREG(st.st_mode)) {
		log_warn("%s/%s is not a file: made anew", img->r->cache.path, name);
		wfs_remove_tree(dir, name, NULL);
	}
	fd = openat(dir, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	if (fd < 0 && errno == EACCES && fchmodat(dir, name, st.st_mode | 0200, 0) == 0) {
		/* served.c protects it from writers: from us, too, unless we are root */
		fd = openat(dir, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
		if (fd >= 0 && fchmod(fd, st.st_mode & 07777) < 0)
			wfs_close_fd(&fd), fd = -1;
	}
	return fd < 0 ? wfs_fail_sys(err, "open %s/%s", img->r->cache.path, name) : fd;
}

static int open_files(struct wfs_image *img, int *data, int *map, struct wfs_err *err)
{
	char name[WFS_OBJECT_NAME];
	struct stat st;
	int r = 0;

	/* A loader opens hundreds of complete images at once: no call that these do not need. */
	image_path(img, "", name);
	if (fstatat(img->r->cache.dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode)) {
		wfs_remove_tree(img->r->cache.dir, name, NULL);
		r = wfs_mkdirs(img->r->cache.dir, name, 0700, err);
	}
	if (r < 0)
		return r;
	*data = r = open_own(img, "data", err);
	if (r >= 0)
		*map = r = open_own(img, "map", err);
	return r < 0 ? r : 0;
}

/* Read what the map claims into img->state; an unusable map is begun afresh. */
static int load_map(struct wfs_image *img, struct wfs_err *err)
{
	int state = read_header(img, img->map_fd), r;
	uint32_t built = 0;
	struct stat st;

	if (fstat(img->data_fd, &st) < 0)
		return wfs_fail_sys(err, "stat image");
	if ((uint64_t)st.st_size != img->size) {
		state = -1;
		if (ftruncate(img->data_fd, (off_t)img->size) < 0)
			return wfs_fail_sys(err, "size image");
	}
	if (state < 0) {
		if (ftruncate(img->map_fd, 0) < 0 ||
		    ftruncate(img->map_fd, (off_t)hashes_off(img, img->n_blocks)) < 0)
			return wfs_fail_sys(err, "size map");
		return write_header(img, MAP_BUILDING, err);
	}
	r = img->n_blocks ? wfs_pread(img->map_fd, (void *)img->state, img->n_blocks, MAP_HEADER, err) : 0;
	if (r < 0)
		return r;
	for (uint32_t b = 0; b < img->n_blocks; b++) {
		bool there = img->state[b] == 1 || state > MAP_BUILDING;

		img->state[b] = !there ? WFS_ABSENT : state > MAP_BUILDING ? WFS_PRESENT : WFS_CLAIMED;
		built += img->state[b] == WFS_PRESENT;
	}
	img->n_built = built;
	img->complete = state > MAP_BUILDING;
	img->durable = state == MAP_DURABLE;
	return 0;
}

int wfs_image_open(struct wfs_image *img, struct wfs_err *err)
{
	int r = 0;

	if (img->opened)
		return 0;
	pthread_mutex_lock(&img->lock);
	if (img->opened)
		goto out;
	if (!img->state)
		img->state = calloc(img->n_blocks + 1u, 1);
	if (!img->given)
		img->given = calloc(wfs_behind_windows(img->size) + 1u, sizeof(*img->given));
	if (!img->state || !img->given) {
		r = wfs_fail(err, -ENOMEM, "out of memory");
		goto out;
	}
	if (img->map_fd < 0)
		r = open_files(img, &img->data_fd, &img->map_fd, err);
	if (r == 0)
		r = load_map(img, err);
	/* Left by one that was killed when it was about to mend it: see wfs_image_drop_block. */
	if (r == 0 && !img->complete && img->r->cache.leases && !wfs_lease_free(img->data_fd))
		r = wfs_image_renew(img, err);
	if (r == 0) {
		img->zero_hash = zero_chunk_hash();
		img->opened = true;
	}
out:
	pthread_mutex_unlock(&img->lock);
	return r < 0 ? wfs_wrap(err, r, "image of %s", img->label) : 0;
}

/* The state that the map of an image not opened claims. */
static int probe_map(struct wfs_image *img)
{
	WFS_AUTO(wfs_close_fd) int fd = -1;
	char name[WFS_OBJECT_NAME];

	image_path(img, "map", name);
	fd = openat(img->r->cache.dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	return fd >= 0 ? read_header(img, fd) : -1;
}

bool wfs_image_probe(struct wfs_image *img)
{
	return img->opened ? img->complete : probe_map(img) > MAP_BUILDING;
}

bool wfs_image_synced(struct wfs_image *img)
{
	return img->opened ? img->durable : probe_map(img) == MAP_DURABLE;
}

bool wfs_image_has(struct wfs_image *img, uint32_t b)
{
	return img->opened && atomic_load_explicit(&img->state[b], memory_order_acquire) == WFS_PRESENT;
}

bool wfs_image_claims(struct wfs_image *img, uint32_t b)
{
	uint8_t s = img->opened ? atomic_load_explicit(&img->state[b], memory_order_acquire) : WFS_ABSENT;

	return s == WFS_PRESENT || s == WFS_CLAIMED;
}

bool wfs_image_in_use(struct wfs_image *img)
{
	WFS_AUTO(wfs_close_fd) int fresh = -1;
	char name[WFS_OBJECT_NAME];

	if (!img->r->cache.leases)
		return img->exposed;
	if (img->opened)
		return !wfs_lease_free(img->data_fd);
	image_path(img, "data", name);
	fresh = openat(img->r->cache.dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	return fresh >= 0 && !wfs_lease_free(fresh);
}

static int write_presence(struct wfs_image *img, uint32_t b, uint8_t v, struct wfs_err *err)
{
	return wfs_pwrite(img->map_fd, &v, 1, (uint64_t)MAP_HEADER + b, err);
}

/* Throw the files away and begin again with empty ones behind the same descriptors, which other
 * threads may be reading from: they find no valid hash and ask for the block again. */
static void start_over(struct wfs_image *img)
{
	char name[WFS_OBJECT_NAME];
	int data = -1, map = -1;

	image_path(img, "", name);
	wfs_remove_tree(img->r->cache.dir, name, NULL);
	if (open_files(img, &data, &map, NULL) == 0 && ftruncate(data, (off_t)img->size) == 0 &&
	    ftruncate(map, (off_t)hashes_off(img, img->n_blocks)) == 0) {
		dup3(data, img->data_fd, O_CLOEXEC);
		img->generation++;
		dup3(map, img->map_fd, O_CLOEXEC);
		write_header(img, MAP_BUILDING, NULL);
	}
	wfs_close_fd(&data);
	wfs_close_fd(&map);
	for (uint32_t b = 0; b < img->n_blocks; b++)
		if (img->state[b] != WFS_BUILDING)
			img->state[b] = WFS_ABSENT;
	img->n_built = 0;
	img->complete = img->durable = false;
}

void wfs_image_drop_block(struct wfs_image *img, uint32_t b)
{
	bool in_use;

	pthread_mutex_lock(&img->lock);
	if (img->opened && img->state[b] == WFS_PRESENT) {
		/* First the claim goes, on disk too: the block is about to be written again. */
		in_use = img->complete && wfs_image_in_use(img);
		img->complete = img->durable = false;
		write_presence(img, b, 0, NULL);
		write_header(img, MAP_BUILDING, NULL);
		img->state[b] = WFS_ABSENT;
		img->n_built--;
		img->r->n_rot++;
		if (in_use && wfs_image_renew(img, NULL) < 0)
			start_over(img);	/* all of it is built again rather than this one written to */
	} else if (img->opened && img->state[b] == WFS_CLAIMED) {
		write_presence(img, b, 0, NULL);
		img->state[b] = WFS_ABSENT;
		img->r->n_rot++;
	}
	pthread_mutex_unlock(&img->lock);
}

/* [off, off+len) of block b, relative to the block, with its chunks' hashes compared.
 * -EBADMSG: they differ. */
static int read_in_block(struct wfs_image *img, uint32_t b, uint32_t off, uint32_t len, uint8_t *buf,
			 struct wfs_err *err)
{
	uint64_t base = (uint64_t)b << WFS_BLOCK_SHIFT;
	uint8_t hashes[HASHES_LEN], part[WFS_CHUNK_SIZE];
	uint32_t block_len = wfs_image_block_len(img, b);
	int r;

	r = wfs_pread(img->map_fd, hashes, sizeof(hashes), hashes_off(img, b), err);
	while (r == 0 && len) {
		uint32_t c = off / WFS_CHUNK_SIZE, start = c * WFS_CHUNK_SIZE;
		uint32_t chunk = WFS_MIN(WFS_CHUNK_SIZE, block_len - start);
		uint32_t n = WFS_MIN(len, start + chunk - off);
		uint8_t *to = n == chunk ? buf : part;

		if (chunk == WFS_CHUNK_SIZE && wfs_get64(hashes + 8 * c) == img->zero_hash) {
			/* Known without the disk: a hole would be filled into the page cache first. */
			memset(buf, 0, n);
			goto next;
		}
		r = wfs_pread(img->data_fd, to, chunk, base + start, err);
		if (r < 0)
			break;
		if (wfs_xxh3(to, chunk) != wfs_get64(hashes + 8 * c))
			return -EBADMSG;
		if (to == part)
			memcpy(buf, part + (off - start), n);
next:
		buf += n;
		off += n;
		len -= n;
	}
	return r;
}

int wfs_image_read(struct wfs_image *img, void *buf, size_t len, uint64_t off, struct wfs_err *err)
{
	uint8_t *to = buf;
	int r;

	assert(off <= img->size && len <= img->size - off);
	while (len) {
		uint32_t b = (uint32_t)(off >> WFS_BLOCK_SHIFT), in = off & (WFS_BLOCK_SIZE - 1);
		uint32_t n = (uint32_t)WFS_MIN((uint64_t)len, (uint64_t)WFS_BLOCK_SIZE - in);

		if (!wfs_image_has(img, b))
			return -EAGAIN;
		r = read_in_block(img, b, in, n, to, err);
		if (r == -EBADMSG || r == -ENODATA || r == -EIO) {
			/* Rot, truncation or a bad sector: build it again. */
			wfs_image_drop_block(img, b);
			return -EAGAIN;
		}
		if (r < 0)
			return wfs_wrap(err, r, "cached %s", img->label);
		to += n;
		off += n;
		len -= n;
	}
	img->r->n_blocks_read++;
	return 0;
}

int wfs_image_raw(struct wfs_image *img, uint32_t b, void *buf, struct wfs_err *err)
{
	return wfs_pread(img->data_fd, buf, wfs_image_block_len(img, b), (uint64_t)b << WFS_BLOCK_SHIFT, err);
}

bool wfs_image_begin(struct wfs_image *img, uint32_t b, bool *claimed)
{
	bool mine;

	pthread_mutex_lock(&img->lock);
	while (img->state[b] == WFS_BUILDING)
		pthread_cond_wait(&img->cond, &img->lock);
	mine = img->state[b] != WFS_PRESENT;
	*claimed = img->state[b] == WFS_CLAIMED;
	if (mine)
		img->state[b] = WFS_BUILDING;
	pthread_mutex_unlock(&img->lock);
	return mine;
}

static bool all_zero(const uint8_t *p, size_t len)
{
	return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

static int write_data(int fd, const void *data, uint32_t len, uint64_t off, struct wfs_err *err)
{
	if (all_zero(data, len) &&
	    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, len) == 0)
		return 0;
	return wfs_pwrite(fd, data, len, off, err);
}

static int write_hashes(int map_fd, uint64_t at, const uint8_t *data, uint32_t len, struct wfs_err *err)
{
	uint8_t hashes[HASHES_LEN] = { 0 };

	for (uint32_t c = 0; c < chunks_of(len); c++) {
		uint32_t start = c * WFS_CHUNK_SIZE;

		wfs_put64(hashes + 8 * c, wfs_xxh3(data + start, WFS_MIN(WFS_CHUNK_SIZE, len - start)));
	}
	return wfs_pwrite(map_fd, hashes, sizeof(hashes), at, err);
}

int wfs_image_done(struct wfs_image *img, uint32_t b, const void *data, bool on_disk, struct wfs_err *err)
{
	uint32_t len = wfs_image_block_len(img, b);
	int r = 0;

	if (data) {
		if (!on_disk)
			r = write_data(img->data_fd, data, len, (uint64_t)b << WFS_BLOCK_SHIFT, err);
		if (r == 0)
			r = write_hashes(img->map_fd, hashes_off(img, b), data, len, err);
		if (r == 0)
			r = write_presence(img, b, 1, err);
	}
	pthread_mutex_lock(&img->lock);
	atomic_store_explicit(&img->state[b], data && r == 0 ? WFS_PRESENT : WFS_ABSENT, memory_order_release);
	if (data && r == 0)
		img->n_built++;
	pthread_cond_broadcast(&img->cond);
	pthread_mutex_unlock(&img->lock);
	return r < 0 ? wfs_wrap(err, r, "write image of %s", img->label) : 0;
}

static int sync_dirs(struct wfs_image *img, struct wfs_err *err)
{
	WFS_AUTO(wfs_close_fd) int own = -1;
	WFS_AUTO(wfs_close_fd) int all = -1;
	char name[WFS_OBJECT_NAME];

	image_path(img, "", name);
	own = openat(img->r->cache.dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	all = openat(img->r->cache.dir, "images", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (own < 0 || all < 0 || fsync(own) < 0 || fsync(all) < 0)
		return wfs_fail_sys(err, "sync %s", name);
	return 0;
}

static int sync_and_mark(struct wfs_image *img, struct wfs_err *err)
{
	int r;

	r = write_header(img, MAP_COMPLETE, err);
	if (r < 0)
		return r;
	img->complete = true;
	if (fdatasync(img->data_fd) < 0 || fdatasync(img->map_fd) < 0)
		return wfs_fail_sys(err, "sync image");
	r = sync_dirs(img, err);
	if (r == 0)
		r = write_header(img, MAP_DURABLE, err);
	if (r == 0 && fdatasync(img->map_fd) < 0)
		r = wfs_fail_sys(err, "sync map");
	return r;
}

int wfs_image_finish(struct wfs_image *img, struct wfs_err *err)
{
	int r = 0;

	pthread_mutex_lock(&img->lock);
	if (img->durable || img->n_built != img->n_blocks)
		goto out;
	r = sync_and_mark(img, err);
	if (r < 0)
		start_over(img);
	else
		img->durable = true;
out:
	pthread_mutex_unlock(&img->lock);
	return r < 0 ? wfs_wrap(err, r, "image of %s thrown away", img->label) : 0;
}
