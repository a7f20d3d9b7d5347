/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.c - one line an event, to stderr or syslog
 *
 * A line is one write(2), so lines of several threads and processes do not mix.  errno
 * survives, so that a caller may log before it looks at it.
 */
#include "weightfs/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "base/text.h"

#define LINE_MAX_BYTES 1024u

static const struct {
	int priority;
	const char *word;
} levels[] = {
	[WFS_LOG_ERROR] = { LOG_ERR, "error: " },
	[WFS_LOG_WARN] = { LOG_WARNING, "warning: " },
	[WFS_LOG_INFO] = { LOG_INFO, "" },
	[WFS_LOG_DEBUG] = { LOG_DEBUG, "debug: " },
};

/* The one global state: set by a program's main before its threads, but for the level. */
static atomic_int max_level = WFS_LOG_INFO;
static const char *ident = "weightfs";
static bool use_syslog;

void wfs_log_open(const char *name, int to_syslog)
{
	ident = name;
	use_syslog = to_syslog;
	if (use_syslog)
		openlog(ident, LOG_PID | LOG_CONS, LOG_DAEMON);
}

void wfs_log_set_level(enum wfs_log_level max)
{
	atomic_store(&max_level, (int)max);
}

static void write_stderr(enum wfs_log_level level, const char *text)
{
	char line[LINE_MAX_BYTES + 128];
	int n = snprintf(line, sizeof(line), "%.64s: %s%s\n", ident, levels[level].word, text);
	ssize_t done;

	do
		done = write(STDERR_FILENO, line, (size_t)n);
	while (done < 0 && errno == EINTR);
}

void wfs_log(enum wfs_log_level level, const char *fmt, ...)
{
	char raw[LINE_MAX_BYTES + 8], text[LINE_MAX_BYTES];
	int saved = errno;
	va_list ap;

	if ((int)level > atomic_load_explicit(&max_level, memory_order_relaxed))
		return;
	va_start(ap, fmt);
	if (vsnprintf(raw, sizeof(raw), fmt, ap) < 0)
		raw[0] = '\0';
	va_end(ap);
	wfs_escape(text, sizeof(text), raw);
	if (use_syslog)
		syslog(levels[level].priority, "%s", text);
	else
		write_stderr(level, text);
	errno = saved;
}
