/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz-procstat.c - /proc/<pid>/stat: a process chooses its name, and the kernel prints it
 */
#include <stdlib.h>
#include <string.h>

#include "job.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct proc_stat st;
	char *line = malloc(len + 1);

	if (!line)
		return 0;
	memcpy(line, data, len);
	line[len] = '\0';
	if (proc_parse_stat(&st, line) && !strrchr(line, ')'))
		abort();
	free(line);
	return 0;
}
