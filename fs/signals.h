/* SPDX-License-Identifier: Apache-2.0 */
/*
 * signals.h - the signals that end a program of ours, as a descriptor
 */
#ifndef FS_SIGNALS_H
#define FS_SIGNALS_H

#include <signal.h>
#include <stddef.h>
#include <sys/signalfd.h>
#include <unistd.h>

static inline sigset_t signals_that_end(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	return set;
}

/* They must be blocked in every thread.  Negative: errno is set. */
static inline int signals_open(void)
{
	sigset_t set = signals_that_end();

	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* The number of one that has come; 0: none. */
static inline int signals_take(int fd)
{
	struct signalfd_siginfo si;

	return read(fd, &si, sizeof(si)) == sizeof(si) ? (int)si.ssi_signo : 0;
}

#endif
