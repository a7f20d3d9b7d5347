/* SPDX-License-Identifier: Apache-2.0 */
/* http.c - placeholder until it lands */
#include <errno.h>
#include "store/backend.h"

int wfs_http_open(struct wfs_store *st, const char *url, struct wfs_err *err)
{
	(void)st;
	(void)url;
	return wfs_fail(err, -EOPNOTSUPP, "http stores are not built yet");
}
