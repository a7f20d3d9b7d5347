/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crypto.c - SHA-256 and random bytes (the only user of libcrypto)
 *
 * Looking up an algorithm and making a context cost libcrypto 3 more than hashing a few
 * kilobytes, so the lookup is done once a process and the context of wfs_sha256() once a thread.
 * After that hashing cannot fail; a thread that cannot get a context ends the program, because
 * no caller could go on without checking its bytes.
 */
#include "weightfs/digest.h"

#include <errno.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

struct wfs_sha256 {
	EVP_MD_CTX *ctx;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t thread_key;
static const EVP_MD *algorithm;
static _Thread_local struct wfs_sha256 *mine;

static void die(const char *what)
{
	fprintf(stderr, "weightfs: SHA-256: %s\n", what);
	abort();
}

static void free_mine(void *s)
{
	mine = NULL;
	wfs_sha256_free(s);
}

static void setup(void)
{
	algorithm = EVP_MD_fetch(NULL, "SHA256", NULL);
	if (!algorithm)
		die("libcrypto does not offer it");
	if (pthread_key_create(&thread_key, free_mine) != 0)
		die("no thread key left");
}

struct wfs_sha256 *wfs_sha256_new(void)
{
	struct wfs_sha256 *s = malloc(sizeof(*s));

	if (!s)
		return NULL;
	pthread_once(&once, setup);
	s->ctx = EVP_MD_CTX_new();
	if (!s->ctx || !EVP_DigestInit_ex2(s->ctx, algorithm, NULL)) {
		wfs_sha256_free(s);
		return NULL;
	}
	return s;
}

void wfs_sha256_free(struct wfs_sha256 *s)
{
	if (!s)
		return;
	EVP_MD_CTX_free(s->ctx);
	free(s);
}

void wfs_sha256_update(struct wfs_sha256 *s, const void *data, size_t len)
{
	if (len && !EVP_DigestUpdate(s->ctx, data, len))
		die("update failed");
}

void wfs_sha256_final(struct wfs_sha256 *s, struct wfs_digest *out)
{
	unsigned len = sizeof(out->b);

	if (!EVP_DigestFinal_ex(s->ctx, out->b, &len) || len != sizeof(out->b) ||
	    !EVP_DigestInit_ex2(s->ctx, NULL, NULL))
		die("final failed");
}

void wfs_sha256(struct wfs_digest *out, const void *data, size_t len)
{
	if (!mine) {
		mine = wfs_sha256_new();
		if (!mine || pthread_setspecific(thread_key, mine) != 0)
			die("out of memory");
	}
	wfs_sha256_update(mine, data, len);
	wfs_sha256_final(mine, out);
}

int wfs_random(void *out, size_t len)
{
	uint8_t *p = out;

	while (len) {
		ssize_t n = getrandom(p, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}
