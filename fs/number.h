/* SPDX-License-Identifier: Apache-2.0 */
/*
 * number.h - a number as a user, a directory name or a line of the control socket has it
 */
#ifndef FS_NUMBER_H
#define FS_NUMBER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Digits only, 19 at most; all of the text. */
static inline bool number_parse(uint64_t *out, const char *text)
{
	size_t n = strlen(text);

	if (!n || n > 19 || strspn(text, "0123456789") != n)
		return false;
	*out = strtoull(text, NULL, 10);
	return true;
}

#endif
