/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json.c - streaming JSON in, escaped JSON out (the only user of yajl)
 *
 * The parser library lets pass what stricter readers refuse: overlong UTF-8, half a surrogate
 * pair (as "?"), vertical tabs as blanks.  Two readers that see different names in one document
 * are an opening, so check_text() looks at all bytes beforehand.
 *
 * The keys of the open levels lie one behind the other, NUL-terminated, in one buffer.  It may
 * move when it grows, so the event's pointers are set anew after each key.
 */
#include "weightfs/json.h"

#include <errno.h>
#include <string.h>
#include <yajl/yajl_parse.h>

#include "base/text.h"
#include "weightfs/base.h"

#define DOCUMENT_MAX (1u << 30)	/* the library counts in int in places */

struct level {
	bool is_array;
	size_t key_at, key_end;		/* in parser.keys */
};

struct parser {
	wfs_json_fn *fn;
	void *arg;
	struct wfs_err *err;
	int result;			/* why we stopped the library */
	uint64_t events, max_events;
	unsigned depth;
	struct level levels[WFS_JSON_DEPTH_MAX];
	struct wfs_buf keys, text;
	struct wfs_json_event ev;	/* key and index are kept up to date for every open level */
};

/* The library's callbacks return whether to go on. */
static int stop(struct parser *p, int code)
{
	p->result = code;
	return 0;
}

static int count_event(struct parser *p)
{
	if (p->events++ < p->max_events)
		return 1;
	return stop(p, wfs_fail(p->err, -EBADMSG, "JSON: more than %llu values and keys",
				(unsigned long long)p->max_events));
}

/* NUL-terminated copy behind b->len. */
static int copy_text(struct parser *p, struct wfs_buf *b, const void *s, size_t len)
{
	if (len && memchr(s, 0, len))
		return stop(p, wfs_fail(p->err, -EBADMSG, "JSON: a NUL character in a string"));
	if (wfs_buf_append(b, s, len) < 0 || wfs_buf_append(b, "", 1) < 0)
		return stop(p, wfs_fail(p->err, -ENOMEM, "JSON: out of memory"));
	return 1;
}

static int emit(struct parser *p, enum wfs_json_kind kind)
{
	int r;

	p->ev.kind = kind;
	p->ev.depth = p->depth;
	r = p->fn(p->arg, &p->ev, p->err);
	return r < 0 ? stop(p, r) : 1;
}

/* A value is complete: the next one in the same array has the next index. */
static void advance(struct parser *p)
{
	if (p->depth && p->levels[p->depth - 1].is_array)
		p->ev.index[p->depth - 1]++;
}

static int scalar(struct parser *p, enum wfs_json_kind kind)
{
	int go = count_event(p) && emit(p, kind);

	advance(p);
	return go;
}

static int text_value(struct parser *p, enum wfs_json_kind kind, const void *s, size_t len)
{
	p->text.len = 0;
	if (!copy_text(p, &p->text, s, len))
		return 0;
	p->ev.text = (const char *)p->text.data;
	p->ev.len = len;
	return scalar(p, kind);
}

static int on_null(void *arg)
{
	return scalar(arg, WFS_JSON_NULL);
}

static int on_boolean(void *arg, int value)
{
	struct parser *p = arg;

	p->ev.uint = value != 0;
	return scalar(p, WFS_JSON_BOOL);
}

static bool parse_uint(uint64_t *out, const char *s, size_t len)
{
	uint64_t v = 0;

	for (size_t i = 0; i < len; i++)
		if (s[i] < '0' || s[i] > '9' || __builtin_mul_overflow(v, 10u, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(s[i] - '0'), &v))
			return false;
	*out = v;
	return true;
}

static int on_number(void *arg, const char *s, size_t len)
{
	struct parser *p = arg;
	bool whole = parse_uint(&p->ev.uint, s, len);

	return text_value(p, whole ? WFS_JSON_UINT : WFS_JSON_NUMBER, s, len);
}

static int on_string(void *arg, const unsigned char *s, size_t len)
{
	return text_value(arg, WFS_JSON_STRING, s, len);
}

static void set_key_pointers(struct parser *p)
{
	for (unsigned i = 0; i < p->depth; i++)
		p->ev.key[i] = p->levels[i].is_array ? NULL
			: (const char *)p->keys.data + p->levels[i].key_at;
}

static int on_key(void *arg, const unsigned char *s, size_t len)
{
	struct parser *p = arg;
	struct level *l = &p->levels[p->depth - 1];

	if (!count_event(p))
		return 0;
	p->keys.len = l->key_at;
	if (!copy_text(p, &p->keys, s, len))
		return 0;
	l->key_end = p->keys.len;
	set_key_pointers(p);
	return 1;
}

static int begin(struct parser *p, bool is_array)
{
	size_t at = p->depth ? p->levels[p->depth - 1].key_end : 0;

	if (!count_event(p))
		return 0;
	if (p->depth == WFS_JSON_DEPTH_MAX)
		return stop(p, wfs_fail(p->err, -EBADMSG, "JSON: nested deeper than %u levels",
					WFS_JSON_DEPTH_MAX));
	if (!emit(p, is_array ? WFS_JSON_ARRAY : WFS_JSON_OBJECT))
		return 0;
	p->levels[p->depth] = (struct level){ .is_array = is_array, .key_at = at, .key_end = at };
	p->ev.key[p->depth] = NULL;
	p->ev.index[p->depth] = 0;
	p->depth++;
	return 1;
}

static int end(struct parser *p, enum wfs_json_kind kind)
{
	int go;

	p->depth--;
	go = emit(p, kind);
	advance(p);
	return go;
}

static int on_start_map(void *arg)
{
	return begin(arg, false);
}

static int on_end_map(void *arg)
{
	return end(arg, WFS_JSON_OBJECT_END);
}

static int on_start_array(void *arg)
{
	return begin(arg, true);
}

static int on_end_array(void *arg)
{
	return end(arg, WFS_JSON_ARRAY_END);
}

static const yajl_callbacks callbacks = {
	.yajl_null = on_null,
	.yajl_boolean = on_boolean,
	.yajl_number = on_number,
	.yajl_string = on_string,
	.yajl_start_map = on_start_map,
	.yajl_map_key = on_key,
	.yajl_end_map = on_end_map,
	.yajl_start_array = on_start_array,
	.yajl_end_array = on_end_array,
};

/* The code unit of "\uXXXX" at s, or -1 when there is no such escape. */
static int escape_unit(const char *s, size_t len)
{
	int unit = 0;

	if (len < 6 || s[0] != '\\' || s[1] != 'u')
		return -1;
	for (int i = 2; i < 6; i++) {
		const char *digits = "0123456789abcdef0123456789ABCDEF";
		const char *d = s[i] ? strchr(digits, s[i]) : NULL;

		if (!d)
			return -1;
		unit = unit << 4 | (int)((d - digits) & 15);
	}
	return unit;
}

/* Length of the escape at s; 0: half a surrogate pair.  Other mistakes are the library's. */
static size_t escape_len(const char *s, size_t len)
{
	int unit = escape_unit(s, len), low;

	if (unit < 0)
		return WFS_MIN(len, (size_t)2);
	if (unit < 0xd800 || unit > 0xdfff)
		return 6;
	low = unit < 0xdc00 ? escape_unit(s + 6, len - 6) : -1;
	return low >= 0xdc00 && low <= 0xdfff ? 12 : 0;
}

/* A backslash is legal in strings only, so it needs no knowledge of where strings begin. */
static int check_text(const char *s, size_t len, struct wfs_err *err)
{
	size_t i = 0;

	while (i < len) {
		uint8_t c = (uint8_t)s[i];
		size_t n = c == '\\' ? escape_len(s + i, len - i) : c < 0x80 ? 1 : wfs_utf8_len(s + i, len - i);

		if (n == 0)
			return wfs_fail(err, -EBADMSG, "JSON: byte %zu: %s", i,
					c == '\\' ? "half a surrogate pair" : "not UTF-8");
		if (c < 0x20 && c != '\t' && c != '\n' && c != '\r')
			return wfs_fail(err, -EBADMSG, "JSON: byte %zu: control character 0x%02x", i, c);
		i += n;
	}
	return 0;
}

static int syntax_error(yajl_handle h, const void *data, size_t len, size_t at, struct wfs_err *err)
{
	char *text = (char *)yajl_get_error(h, 0, data, len);
	int r = wfs_fail(err, -EBADMSG, "JSON: byte %zu: %.*s", at,
			 text ? (int)strcspn(text, "\n") : 0, text ? text : "");

	if (text)
		yajl_free_error(h, (unsigned char *)text);
	return r;
}

static int run(struct parser *p, const void *data, size_t len)
{
	yajl_handle h = yajl_alloc(&callbacks, NULL, p);
	yajl_status status;
	size_t at;
	int r;

	if (!h)
		return wfs_fail(p->err, -ENOMEM, "JSON: out of memory");
	status = yajl_parse(h, data, len);
	at = yajl_get_bytes_consumed(h);
	if (status == yajl_status_ok) {
		status = yajl_complete_parse(h);
		at = len;
	}
	if (p->result < 0)
		r = p->result;
	else
		r = status == yajl_status_ok ? 0 : syntax_error(h, data, len, at, p->err);
	yajl_free(h);
	return r;
}

int wfs_json_parse(const void *data, size_t len, uint64_t max_events,
		   wfs_json_fn *fn, void *arg, struct wfs_err *err)
{
	struct parser p = { .fn = fn, .arg = arg, .err = err, .max_events = max_events };
	int r;

	if (len > DOCUMENT_MAX)
		return wfs_fail(err, -EBADMSG, "JSON: document of more than %u bytes", DOCUMENT_MAX);
	r = check_text(data, len, err);
	if (r == 0)
		r = run(&p, data, len);
	wfs_buf_free(&p.keys);
	wfs_buf_free(&p.text);
	return r;
}

bool wfs_json_at_top(const struct wfs_json_event *ev, const char *name)
{
	return ev->depth == 1 && ev->key[0] && strcmp(ev->key[0], name) == 0;
}

/* What stands for the n bytes at s; NULL: they stand for themselves.  C1 controls are escaped
 * because the text may be shown on a terminal. */
static const char *quoted(char tmp[8], const char *s, size_t n)
{
	static const char hex[] = "0123456789abcdef";
	uint8_t c = (uint8_t)s[n ? n - 1 : 0];

	if (n == 0)
		return "\xef\xbf\xbd";
	if (n > 2 || (n == 2 && ((uint8_t)s[0] != 0xc2 || c >= 0xa0)))
		return NULL;
	if (c == '"' || c == '\\') {
		memcpy(tmp, (char[]){ '\\', (char)c, '\0' }, 3);
		return tmp;
	}
	if (c == '\n')
		return "\\n";
	if (c == '\t')
		return "\\t";
	if (c >= 0x20 && c < 0x7f)
		return NULL;
	memcpy(tmp, (char[]){ '\\', 'u', '0', '0', hex[c >> 4], hex[c & 15], '\0' }, 7);
	return tmp;
}

static int append_quoted(struct wfs_buf *out, const char *text)
{
	int r = wfs_buf_append(out, "\"", 1);

	while (r == 0 && *text) {
		char tmp[8];
		size_t n = wfs_utf8_len(text, strnlen(text, 4));
		const char *sub = quoted(tmp, text, n);

		r = wfs_buf_append(out, sub ? sub : text, sub ? strlen(sub) : n);
		text += n ? n : 1;
	}
	return r < 0 ? r : wfs_buf_append(out, "\"", 1);
}

int wfs_json_quote(struct wfs_buf *out, const char *text)
{
	size_t len = out->len;
	int r = append_quoted(out, text);

	if (r < 0)
		out->len = len;
	return r;
}
