/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clock.c - the two clocks of base.h
 */
#include "weightfs/base.h"

#include <time.h>

static uint64_t now(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t wfs_now_ns(void)
{
	return now(CLOCK_MONOTONIC);
}

uint64_t wfs_wall_ns(void)
{
	return now(CLOCK_REALTIME);
}
