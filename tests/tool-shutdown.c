/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tool-shutdown DIR - the ext4 below DIR forgets what is not on its disk, as when power fails
 *
 * Every later call there fails; after umount and mount it is what was synced.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>

#define EXT4_IOC_SHUTDOWN	_IOR('X', 125, uint32_t)
#define NO_LOG_FLUSH		2u	/* nor what is in the journal's memory alone */

int main(int argc, char **argv)
{
	uint32_t how = NO_LOG_FLUSH;
	int fd;

	if (argc != 2) {
		fprintf(stderr, "usage: tool-shutdown DIR\n");
		return 2;
	}
	fd = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, EXT4_IOC_SHUTDOWN, &how) < 0) {
		perror(argv[1]);
		return 1;
	}
	return 0;
}
