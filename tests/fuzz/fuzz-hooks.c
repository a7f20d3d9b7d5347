/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz-hooks.c - sections [hook "NAME"] of weightfs.conf, and what a version's text makes of their templates
 *
 * What the checks let pass must keep its promises for every version: a body is JSON whatever the label
 * says, a URL is printable, a hook can be shown.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hook.h"
#include "weightfs/base.h"
#include "weightfs/http.h"
#include "weightfs/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(cond) do { if (!(cond)) abort(); } while (0)

static char path[] = "/m/versions/42", label[] = "\"}],\\\\ \x1b[31m\n{path}{id}\xc3\xa4&?#%",
	    id[] = "9f2ce15a000000000000000000000000000000000000000000000000deadbeef";
static const struct event event = { .sequence = 42, .path = path, .label = label, .id = id };

static int ignore(void *arg, const struct wfs_json_event *ev, struct wfs_err *err)
{
	(void)arg;
	(void)ev;
	(void)err;
	return 0;
}

static void check_request(const struct hook_request *q)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf url = WFS_BUF_INIT;
	WFS_AUTO(wfs_buf_free) struct wfs_buf body = WFS_BUF_INIT;

	MUST(q->method[0] && strncmp(q->url, "http", 4) == 0);
	MUST(q->expect_low >= 100 && q->expect_low <= q->expect_high && q->expect_high <= 599);
	MUST(q->timeout_ms != HOOK_UNSET && q->retries != HOOK_UNSET);
	for (size_t i = 0; i < q->header.n; i++)
		MUST(wfs_http_header_ok(q->header.v[i]));
	MUST(hook_expand(&url, q->url, HOOK_URL, &event, "/m") == 0);
	for (size_t i = 0; i < url.len; i++)
		MUST(url.data[i] > ' ' && url.data[i] != 127);
	if (!q->body)
		return;
	MUST(hook_expand(&body, q->body, HOOK_JSON, &event, "/m") == 0);
	MUST(wfs_json_parse(body.data, body.len, 10000, ignore, NULL, NULL) == 0);
}

static void check_hook(const struct hook *h, FILE *null)
{
	struct hook_run run = { .h = h, .mount = "/m" };
	struct wfs_err err = { 0 };

	MUST(hook_name_ok(h->name, strlen(h->name)));
	MUST(!h->command != !h->n_requests && h->timeout_ms && h->n_requests <= HOOK_REQUESTS_MAX);
	for (size_t i = 0; i < h->n_requests; i++)
		check_request(&h->request[i]);
	MUST(hook_print(null, &run, &event, &err) == 0 || err.msg[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static FILE *null;
	struct hook_list l = { 0 };
	struct wfs_err err = { 0 };
	int fd = memfd_create("ini", MFD_CLOEXEC), r;
	char name[64];

	if (!null)
		null = fopen("/dev/null", "we");
	MUST(null && fd >= 0 && write(fd, data, size) == (ssize_t)size);
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	r = hook_conf_read(&l, name, &err);
	if (r == 0)
		r = hook_conf_finish(&l, "/m", &err);
	MUST(r == 0 || err.msg[0]);
	for (size_t i = 0; r == 0 && i < l.n; i++)
		check_hook(&l.v[i], null);
	hook_list_free(&l);
	close(fd);
	return 0;
}
