/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.c - options by table (the only user of inih)
 *
 * The ini library knows no line numbers, cuts long lines in two and joins an indented line to
 * the one before.  So it gets its lines from next_line(), which counts them, refuses what
 * would be cut and takes the indentation away.
 */
#include "weightfs/config.h"

#include <errno.h>
#include <ini.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "weightfs/base.h"
#include "weightfs/buf.h"

#define SECTION_LEN_MAX 49u	/* the library cuts longer names */
#define FRACTION_DIGITS_MAX 6u	/* 10^6 times the largest unit fits 64 bits */

struct unit {
	const char *suffix;
	uint64_t factor;
};

static const struct unit sizes[] = {
	{ "", 1 }, { "K", 1ull << 10 }, { "M", 1ull << 20 }, { "G", 1ull << 30 }, { "T", 1ull << 40 },
	{ "KiB", 1ull << 10 }, { "MiB", 1ull << 20 }, { "GiB", 1ull << 30 }, { "TiB", 1ull << 40 },
};

static const struct unit times[] = {
	{ "", 1000 }, { "ms", 1 }, { "s", 1000 }, { "m", 60 * 1000 }, { "h", 3600 * 1000 },
};

/* Digits in the base; false: none, or more than 64 bits. */
static bool scan_uint(uint64_t *out, const char **text, unsigned base)
{
	const char *p = *text;
	uint64_t v = 0;

	for (; *p >= '0' && *p < (char)('0' + base); p++)
		if (__builtin_mul_overflow(v, base, &v) || __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
			return false;
	if (p == *text)
		return false;
	*text = p;
	*out = v;
	return true;
}

static const struct unit *find_unit(const struct unit *units, size_t n, const char *suffix)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(units[i].suffix, suffix) == 0)
			return &units[i];
	return NULL;
}

/* "3.5G": no sign, no exponent, nothing that depends on the locale. */
static bool scan_amount(uint64_t *out, const char *text, const struct unit *units, size_t n)
{
	uint64_t whole, part = 0, scale = 1;
	const struct unit *u;

	if (!scan_uint(&whole, &text, 10))
		return false;
	if (*text == '.') {
		const char *digits = ++text;

		if (!scan_uint(&part, &text, 10) || text - digits > (ptrdiff_t)FRACTION_DIGITS_MAX)
			return false;
		for (; digits < text; digits++)
			scale *= 10;
	}
	u = find_unit(units, n, text);
	if (!u || (scale > 1 && u->factor == 1) || __builtin_mul_overflow(whole, u->factor, &whole))
		return false;
	return !__builtin_add_overflow(whole, part * u->factor / scale, out);
}

static bool scan_unsigned(unsigned *out, const char *text, unsigned base, uint64_t max)
{
	uint64_t v;

	if (!scan_uint(&v, &text, base) || *text || v > max)
		return false;
	*out = (unsigned)v;
	return true;
}

static int bad(const struct wfs_opt *o, const char *value, const char *right, struct wfs_err *err)
{
	return wfs_fail(err, -EINVAL, "option %s: \"%s\" is not %s", o->name, value, right);
}

static int set_flag(bool *field, const struct wfs_opt *o, const char *value, struct wfs_err *err)
{
	if (value && strcmp(value, "on") != 0 && strcmp(value, "off") != 0)
		return bad(o, value, "\"on\" or \"off\"", err);
	*field = !value || strcmp(value, "on") == 0;
	return 0;
}

static int set_string(char **field, const char *value, struct wfs_err *err)
{
	char *copy = strdup(value);

	if (!copy)
		return wfs_fail(err, -ENOMEM, "out of memory");
	free(*field);
	*field = copy;
	return 0;
}

static int set_list(struct wfs_strings *field, const char *value, struct wfs_err *err)
{
	return wfs_strings_add(field, value) < 0 ? wfs_fail(err, -ENOMEM, "out of memory") : 0;
}

static int set_time(unsigned *field, const struct wfs_opt *o, const char *value, struct wfs_err *err)
{
	uint64_t ms;

	if (!scan_amount(&ms, value, times, ARRAY_SIZE(times)) || ms > UINT_MAX)
		return bad(o, value, "a time such as 500ms, 30s, 5m or 2h", err);
	*field = (unsigned)ms;
	return 0;
}

static int set_choice(unsigned *field, const struct wfs_opt *o, const char *value, struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf list = WFS_BUF_INIT;
	int r = wfs_buf_printf(&list, "one of");

	for (unsigned i = 0; o->choices[i]; i++) {
		if (strcmp(o->choices[i], value) == 0) {
			*field = i;
			return 0;
		}
		if (r == 0)
			r = wfs_buf_printf(&list, "%s %s", i ? "," : "", o->choices[i]);
	}
	return bad(o, value, r < 0 ? "a known choice" : (const char *)list.data, err);
}

static int set_value(void *field, const struct wfs_opt *o, const char *value, struct wfs_err *err)
{
	switch (o->type) {
	case WFS_OPT_FLAG:
		return set_flag(field, o, value, err);
	case WFS_OPT_STRING:
		return set_string(field, value, err);
	case WFS_OPT_LIST:
		return set_list(field, value, err);
	case WFS_OPT_SIZE:
		return scan_amount(field, value, sizes, ARRAY_SIZE(sizes)) ? 0 :
			bad(o, value, "a size such as 4096, 64K, 3.5G or 1T", err);
	case WFS_OPT_TIME:
		return set_time(field, o, value, err);
	case WFS_OPT_UINT:
		return scan_unsigned(field, value, 10, UINT_MAX) ? 0 :
			bad(o, value, "a whole number from 0 to 4294967295", err);
	case WFS_OPT_OCTAL:
		return scan_unsigned(field, value, 8, 07777) ? 0 :
			bad(o, value, "an octal number from 0 to 7777", err);
	case WFS_OPT_CHOICE:
		return set_choice(field, o, value, err);
	case WFS_OPT_IGNORE:
		break;
	}
	return 0;
}

#define NAME_MAX_COMPARED 32u

/* Edit distance; a swap of neighbours counts two.  Long names are never "near". */
static unsigned distance(const char *a, const char *b)
{
	size_t na = strlen(a), nb = strlen(b);
	unsigned row[NAME_MAX_COMPARED + 1];

	if (na > NAME_MAX_COMPARED || nb > NAME_MAX_COMPARED)
		return UINT_MAX;
	for (size_t j = 0; j <= nb; j++)
		row[j] = (unsigned)j;
	for (size_t i = 1; i <= na; i++) {
		unsigned diagonal = row[0];

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= nb; j++) {
			unsigned up = row[j], best = WFS_MIN(up, row[j - 1]) + 1;

			row[j] = WFS_MIN(best, diagonal + (a[i - 1] != b[j - 1]));
			diagonal = up;
		}
	}
	return row[nb];
}

static const char *nearest(const struct wfs_opt *table, size_t n, const char *name)
{
	unsigned best = (unsigned)strlen(name) / 3 + 2;	/* from here on it is another word */
	const char *found = NULL;

	for (size_t i = 0; i < n; i++) {
		unsigned d = distance(name, table[i].name);

		if (table[i].type != WFS_OPT_IGNORE && d < best) {
			best = d;
			found = table[i].name;
		}
	}
	return found;
}

static int unknown(const struct wfs_opt *table, size_t n, const char *name, struct wfs_err *err)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf list = WFS_BUF_INIT;
	const char *near = nearest(table, n, name);

	if (near)
		return wfs_fail(err, -EINVAL, "unknown option \"%s\": did you mean \"%s\"?", name, near);
	for (size_t i = 0; i < n; i++)
		if (table[i].type != WFS_OPT_IGNORE &&
		    wfs_buf_printf(&list, "%s %s", list.len ? "," : "", table[i].name) < 0)
			break;
	return wfs_fail(err, -EINVAL, "unknown option \"%s\"; there are:%s", name,
			list.len ? (const char *)list.data : " none");
}

int wfs_opt_set(void *target, const struct wfs_opt *table, size_t n, const char *name,
		const char *value, struct wfs_err *err)
{
	for (size_t i = 0; i < n; i++) {
		const struct wfs_opt *o = &table[i];

		if (strcmp(o->name, name) != 0)
			continue;
		if ((!value || !*value) && o->type != WFS_OPT_FLAG && o->type != WFS_OPT_IGNORE)
			return wfs_fail(err, -EINVAL, "option %s needs a value: %s=...", name, name);
		return set_value((char *)target + o->offset, o, value, err);
	}
	return unknown(table, n, name, err);
}

/* Cut the next item off *list in place, with "\," turned into a comma; NULL at the end. */
static char *next_item(char **list)
{
	char *start = *list, *from = start, *to = start;

	if (!start)
		return NULL;
	while (*from && *from != ',') {
		if (from[0] == '\\' && from[1] == ',')
			from++;
		*to++ = *from++;
	}
	*list = *from ? from + 1 : NULL;
	*to = '\0';
	return start;
}

int wfs_opt_parse_list(void *target, const struct wfs_opt *table, size_t n, const char *list,
		       struct wfs_err *err)
{
	WFS_AUTO(wfs_free_ptr) char *copy = strdup(list);
	char *rest = copy, *item;

	if (!copy)
		return wfs_fail(err, -ENOMEM, "out of memory");
	while ((item = next_item(&rest))) {
		char *equal = strchr(item, '=');
		int r;

		if (!*item)	/* mount(8) may leave empty ones */
			continue;
		if (equal)
			*equal++ = '\0';
		r = wfs_opt_set(target, table, n, item, equal, err);
		if (r < 0)
			return r;
	}
	return 0;
}

struct file_parse {
	FILE *f;
	wfs_conf_fn *fn;
	void *arg;
	const char *path;
	unsigned line;
	int result;
	struct wfs_err *err;
};

static bool line_is_whole(const struct file_parse *p, const char *line)
{
	size_t len = strlen(line);

	return (len && line[len - 1] == '\n') || feof(p->f);
}

static bool section_is_whole(const char *text)
{
	size_t end = strcspn(text, "]");

	return text[end] == ']' && end - 1 <= SECTION_LEN_MAX;
}

/* The library's reader: one line without its indentation, NULL at the end or after a mistake. */
static char *next_line(char *line, int size, void *arg)
{
	struct file_parse *p = arg;
	char *text;

	if (p->result < 0 || !fgets(line, size, p->f))
		return NULL;
	p->line++;
	text = line + strspn(line, " \t\r\v\f");
	if (!line_is_whole(p, line))
		p->result = wfs_fail(p->err, -EINVAL, "%s:%u: longer than %d bytes, or holds a NUL byte",
				     p->path, p->line, size - 2);
	else if (*text == '[' && !section_is_whole(text))
		p->result = wfs_fail(p->err, -EINVAL, "%s:%u: a section is written [name], with at most %u bytes",
				     p->path, p->line, SECTION_LEN_MAX);
	if (p->result < 0)
		return NULL;
	return memmove(line, text, strlen(text) + 1);
}

/* Called for each "name = value"; 0 tells the library of a mistake. */
static int on_option(void *arg, const char *section, const char *name, const char *value)
{
	struct file_parse *p = arg;
	int r;

	if (p->result < 0)
		return 0;
	if (*section)
		r = p->fn(p->arg, section, name, value, p->err);
	else
		r = wfs_fail(p->err, -EINVAL, "\"%s\" stands before the first [section]", name);
	if (r < 0)
		p->result = wfs_wrap(p->err, r, "%s:%u", p->path, p->line);
	return r == 0;
}

int wfs_conf_read(const char *path, wfs_conf_fn *fn, void *arg, struct wfs_err *err)
{
	struct file_parse p = { .fn = fn, .arg = arg, .path = path, .err = err };
	int line;
	bool failed;

	p.f = fopen(path, "re");
	if (!p.f)
		return errno == ENOENT ? -ENOENT : wfs_fail_sys(err, "%s", path);
	line = ini_parse_stream(next_line, &p, on_option, &p);
	failed = ferror(p.f);
	fclose(p.f);
	if (p.result < 0)
		return p.result;
	if (failed)
		return wfs_fail(err, -EIO, "%s: cannot be read", path);
	if (line != 0)
		return wfs_fail(err, -EINVAL, "%s:%d: neither [section] nor name = value", path, line);
	return 0;
}

struct opt_target {
	void *target;
	const struct wfs_opt *table;
	size_t n;
	const char *const *sections;
};

static int set_wanted(void *arg, const char *section, const char *name, const char *value, struct wfs_err *err)
{
	const struct opt_target *t = arg;

	for (const char *const *s = t->sections; *s; s++)
		if (strcmp(*s, section) == 0)
			return wfs_opt_set(t->target, t->table, t->n, name, value, err);
	return 0;
}

int wfs_opt_parse_file(void *target, const struct wfs_opt *table, size_t n, const char *path,
		       const char *const *sections, struct wfs_err *err)
{
	struct opt_target t = { .target = target, .table = table, .n = n, .sections = sections };

	return wfs_conf_read(path, set_wanted, &t, err);
}

void wfs_opt_free(void *target, const struct wfs_opt *table, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		void *field = (char *)target + table[i].offset;

		if (table[i].type == WFS_OPT_STRING) {
			free(*(char **)field);
			*(char **)field = NULL;
		} else if (table[i].type == WFS_OPT_LIST) {
			wfs_strings_free(field);
		}
	}
}

int wfs_strings_add(struct wfs_strings *s, const char *text)
{
	char *copy = strdup(text);
	char **v = copy ? reallocarray(s->v, s->n + 1, sizeof(*v)) : NULL;

	if (!v) {
		free(copy);
		return -ENOMEM;
	}
	s->v = v;
	v[s->n++] = copy;
	return 0;
}

void wfs_strings_free(struct wfs_strings *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->v[i]);
	free(s->v);
	*s = (struct wfs_strings){ 0 };
}

const char *wfs_human_size(char out[32], uint64_t bytes)
{
	static const char units[] = "KMGTPE";
	double v = (double)bytes / 1024;
	size_t u = 0;

	if (bytes < 1024) {
		snprintf(out, 32, "%u B", (unsigned)bytes);
		return out;
	}
	for (; v >= 1023.95; u++)	/* else it would print as 1024.0 */
		v /= 1024;
	snprintf(out, 32, "%.1f %ciB", v, units[u]);
	return out;
}
