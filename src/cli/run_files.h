/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The directory of a running switch and the files in it, as `lasthop run` makes and removes them.
 * Functions print what is wrong and return an exit status.
 */
#ifndef LASTHOP_CLI_RUN_FILES_H
#define LASTHOP_CLI_RUN_FILES_H

#include "lib/compiler.h"

struct run_files {
	const char *dir;
	bool made_dir;
	int lock_fd;
};

/*
 * Makes the directory if it is missing, locks it for this instance and removes what an earlier one
 * left there. The lock is inherited by the children and lasts until the last of them has ended.
 */
int run_files_open(struct run_files *files, const char *dir);

/* Removes all files, the ports' sockets that nobody serves among them. The children have ended. */
void run_files_close(struct run_files *files);

/* Whether a switch runs in `dir`: 1 or 0 by its lock, or a negative errno: there is none, or not for us to see. */
int run_files_locked(const char *dir) must_check;

/*
 * Finds a program of ours beside the running one, or where it was installed to: 0, or -ENOENT.
 */
int run_files_find_program(const char *name, char *path, size_t size) must_check;

#endif
