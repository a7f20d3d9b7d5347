/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz-http.c - the head of an HTTP answer and its judgement
 *
 * First line: the question ("", "5-", "5-9"); the rest: lines of the head.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "store/http_head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check(int verdict, const struct wfs_http_ask *ask, const struct wfs_http_head *h,
		  const struct wfs_http_body *body, const struct wfs_err *err)
{
	if (verdict < 0 && verdict != -ENOENT && !err->msg[0])
		abort();		/* every refusal has words, but "not there" */
	if (verdict == WFS_HTTP_REDIRECT && (!h->location[0] || strlen(h->location) >= sizeof(h->location)))
		abort();
	if (verdict != WFS_HTTP_BODY)
		return;
	if (body->off > body->end || body->end > body->total || (body->off && !ask->ranged))
		abort();
	if (h->status == 206 && body->off != ask->first)
		abort();
}

static struct wfs_http_ask question(const uint8_t *line, size_t len)
{
	struct wfs_http_ask ask = { .first = 0, .last = WFS_HTTP_UNKNOWN };
	char text[64];
	char *end;

	len = len < sizeof(text) - 1 ? len : sizeof(text) - 1;
	memcpy(text, line, len);
	text[len] = '\0';
	ask.ranged = text[0] >= '0' && text[0] <= '9';
	if (!ask.ranged)
		return ask;
	ask.first = strtoull(text, &end, 10) >> 2;
	if (end[0] == '-' && end[1] >= '0' && end[1] <= '9')
		ask.last = ask.first + (strtoull(end + 1, NULL, 10) >> 2);
	return ask;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const uint8_t *p = data, *end = data + len;
	struct wfs_http_ask ask = { .last = WFS_HTTP_UNKNOWN };
	struct wfs_http_body body = { 0 };
	struct wfs_http_head h;
	struct wfs_err err = { 0 };
	bool first = true;

	wfs_http_head_init(&h);
	while (p < end) {
		const uint8_t *nl = memchr(p, '\n', (size_t)(end - p));
		const uint8_t *next = nl ? nl + 1 : end;

		if (first)
			ask = question(p, (size_t)(next - p));
		else
			wfs_http_head_line(&h, (const char *)p, (size_t)(next - p));
		first = false;
		p = next;
	}
	check(wfs_http_judge(&h, &ask, &body, &err), &ask, &h, &body, &err);
	return 0;
}
