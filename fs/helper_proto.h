/* SPDX-License-Identifier: Apache-2.0 */
/*
 * helper_proto.h - what goes over the helper's socket: SOCK_SEQPACKET, one ask, one answer, but to
 * HELPER_CLOSE none
 */
#ifndef FS_HELPER_PROTO_H
#define FS_HELPER_PROTO_H

#include "helper.h"

enum helper_what {
	HELPER_MOUNT = 1,		/* answers with the connection */
	HELPER_UNMOUNT,
	HELPER_OPEN,			/* comes with a file: r is its backing id */
	HELPER_CLOSE,			/* id; no answer */
	HELPER_SETTLE,			/* seed; answers with a pipe */
};

struct helper_ask {
	uint32_t what;
	int32_t id;
	uint64_t seed;
};

struct helper_answer {
	int32_t r;
	char msg[240];			/* when r < 0; may be empty */
};

/* One message with at most one descriptor (-1: none).  recv: the length, 0 at the end, or -errno; what came
 * beside it, were it more than one descriptor, is closed. */
int helper_send(int sock, const void *msg, size_t len, int fd);
int helper_recv(int sock, void *msg, size_t len, int *fd);

/* The process itself. */
_Noreturn void helper_main(int sock, const struct helper_conf *conf);

/* The child that HELPER_SETTLE starts. */
_Noreturn void helper_settle_main(int pipe, const char *point, unsigned major, unsigned minor, uint64_t seed);

#endif
