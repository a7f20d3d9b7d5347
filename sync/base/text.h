/* SPDX-License-Identifier: Apache-2.0 */
/*
 * text.h - foreign text made fit for one line, and UTF-8 (inside sync/base only)
 */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include <stddef.h>

/* Length of the valid UTF-8 sequence that the n bytes at s begin with; 0 where they do not. */
size_t wfs_utf8_len(const char *s, size_t n);

/* Copy text into out (size bytes with the NUL, at least 8).  Control characters and bytes that
 * are not UTF-8 become \xNN.  What does not fit is cut between characters and ends in "...". */
void wfs_escape(char *out, size_t size, const char *text);

#endif
