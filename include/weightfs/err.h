/* SPDX-License-Identifier: Apache-2.0 */
/*
 * err.h - an error code with the sentence an operator needs
 *
 * Functions return 0 or a negative errno and take `struct wfs_err *err` last.  The place that
 * breaks calls wfs_fail (or wfs_fail_sys, which adds the meaning of errno); a caller that
 * knows more calls wfs_wrap, which puts its words in front: "fetch table 9f2c...: HTTP 503".
 * All accept a NULL err, and return the code so that they can stand in a return statement.
 * A message is one line: control characters are escaped when it is formatted.
 *
 * Codes with a meaning of their own in this project:
 *   -EBADMSG          bytes that break a rule of their format, or fail their digest
 *   -EPROTONOSUPPORT  a format, codec or version this program does not know
 *   -ENOENT           the named thing is not there (message only where that is an error)
 *   -EAGAIN           not now: the bytes are not local yet
 *   -ECANCELED        stopped by the caller
 *   -ETIMEDOUT        nothing moved for the configured time
 */
#ifndef WEIGHTFS_ERR_H
#define WEIGHTFS_ERR_H

struct wfs_err {
	char msg[512];
};

__attribute__((format(printf, 3, 4)))
int wfs_fail(struct wfs_err *err, int code, const char *fmt, ...);

/* As wfs_fail with code -errno, and ": <strerror>" appended. */
__attribute__((format(printf, 2, 3)))
int wfs_fail_sys(struct wfs_err *err, const char *fmt, ...);

__attribute__((format(printf, 3, 4)))
int wfs_wrap(struct wfs_err *err, int code, const char *fmt, ...);

#endif
