/* SPDX-License-Identifier: Apache-2.0 */
/*
 * err.c - an error code with the sentence an operator needs
 *
 * A message is formatted beside err->msg and then escaped into it, so that err->msg may itself
 * be an argument.  The scratch is longer than the message: what vsnprintf cuts would not fit
 * either, and wfs_escape marks the cut.
 */
#include "weightfs/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

#define SCRATCH (sizeof(((struct wfs_err *)0)->msg) + 8)

__attribute__((format(printf, 2, 0)))
static void set_message(struct wfs_err *err, const char *fmt, va_list ap, const char *tail)
{
	char raw[SCRATCH];
	int n = vsnprintf(raw, sizeof(raw), fmt, ap);

	if (n < 0)
		n = 0;
	raw[n < (int)sizeof(raw) ? n : (int)sizeof(raw) - 1] = '\0';
	if (tail && n < (int)sizeof(raw))
		snprintf(raw + n, sizeof(raw) - (size_t)n, ": %s", tail);
	wfs_escape(err->msg, sizeof(err->msg), raw);
}

int wfs_fail(struct wfs_err *err, int code, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return code;
	va_start(ap, fmt);
	set_message(err, fmt, ap, NULL);
	va_end(ap);
	return code;
}

int wfs_fail_sys(struct wfs_err *err, const char *fmt, ...)
{
	int code = errno > 0 ? errno : EIO;
	char text[128];
	va_list ap;

	if (!err)
		return -code;
	va_start(ap, fmt);
	set_message(err, fmt, ap, strerror_r(code, text, sizeof(text)));
	va_end(ap);
	return -code;
}

/* A code that came without words (-ENOENT of a lookup) gets those of errno. */
int wfs_wrap(struct wfs_err *err, int code, const char *fmt, ...)
{
	char text[128], inner[sizeof(err->msg)];
	va_list ap;

	if (!err)
		return code;
	memcpy(inner, err->msg, sizeof(inner));
	va_start(ap, fmt);
	set_message(err, fmt, ap, inner[0] ? inner : strerror_r(-code, text, sizeof(text)));
	va_end(ap);
	return code;
}
