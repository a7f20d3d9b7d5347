/* SPDX-License-Identifier: Apache-2.0 */
/*
 * object.h - reading the members of a JSON object by a table
 */
#ifndef FORMAT_OBJECT_H
#define FORMAT_OBJECT_H

#include <stdbool.h>
#include <stddef.h>

#include "weightfs/err.h"
#include "weightfs/json.h"
#include "weightfs/version.h"

enum wfs_value { V_FORMAT, V_RUN, V_UINT, V_SEQUENCE, V_DIGEST, V_TEXT, V_ARRAY };

struct wfs_member {
	const char *name;
	enum wfs_value value;
	bool optional;
	size_t offset;			/* of the field in the struct */
};

/* Is it an object of at most max bytes and of our format?  Looks at nothing else. */
int wfs_object_format(const char *what, const void *data, size_t len, size_t max, struct wfs_err *err);

/* The member of an object that `ev` is the value of, key being its name.  *has has a bit for each
 * row of the table. */
int wfs_object_member(const struct wfs_member *table, size_t n, unsigned *has, void *object, const char *key,
		      const struct wfs_json_event *ev, struct wfs_err *err);
/* -EBADMSG: one that must be there is not. */
int wfs_object_complete(const struct wfs_member *table, size_t n, unsigned has, struct wfs_err *err);

#endif
