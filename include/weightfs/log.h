/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.h - one line an event, to stderr or syslog; used by the programs' edges only
 *
 * Control characters are escaped, so foreign names cannot forge lines.  Thread-safe.
 */
#ifndef WEIGHTFS_LOG_H
#define WEIGHTFS_LOG_H

enum wfs_log_level { WFS_LOG_ERROR, WFS_LOG_WARN, WFS_LOG_INFO, WFS_LOG_DEBUG };

/* ident is the program's name.  With to_syslog lines go to syslog(3), else to stderr. */
void wfs_log_open(const char *ident, int to_syslog);
void wfs_log_set_level(enum wfs_log_level max);

__attribute__((format(printf, 2, 3)))
void wfs_log(enum wfs_log_level level, const char *fmt, ...);

#define log_err(...)   wfs_log(WFS_LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  wfs_log(WFS_LOG_WARN, __VA_ARGS__)
#define log_info(...)  wfs_log(WFS_LOG_INFO, __VA_ARGS__)
#define log_debug(...) wfs_log(WFS_LOG_DEBUG, __VA_ARGS__)

#endif
