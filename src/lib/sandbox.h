/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Giving up privilege, in three stages that a process takes in this order once it has opened what
 * it cannot open later:
 *
 *	stage                    what is gone afterwards
 *	sandbox_enter_root()     every file but those below one directory; or
 *	sandbox_enter_nothing()  every file
 *	sandbox_drop_privilege() the user root, every capability, gaining any by exec
 *	sandbox_seccomp()        every system call but those named
 *
 * All act on the whole process; the first two must be called before there are other threads. They
 * return 0 or a negative errno, after a line in the log that says which step failed and what can be
 * done. A stage that failed may have been carried out in part: the process must not go on
 * as if it were confined.
 */
#ifndef LIB_SANDBOX_H
#define LIB_SANDBOX_H

#include "lib/compiler.h"

#include <sys/types.h>

/*
 * Makes `dir` the root of a mount namespace in which nothing else exists: not the host's files, no
 * /proc, no /dev. It stays writable as it was; nothing in it can be executed or opened as a device.
 * The working directory is then the new root. Where the caller may not mount, a user namespace is
 * made first, in which it has only its own user and group: sandbox_drop_privilege() can then not
 * change them.
 */
int sandbox_enter_root(const char *dir) must_check;

/* The same with an empty file system to which nobody can write. */
int sandbox_enter_nothing(void) must_check;

/*
 * The same for a process that has other threads already, which a new mount namespace would not move: the root of all
 * of them becomes a directory that has been removed, in which nothing is and nothing can be made. Takes root; the rest
 * of the stages must follow, as root could find its way out.
 */
int sandbox_enter_removed(void) must_check;

/*
 * Becomes `uid` and `gid` for good, without supplementary groups, and gives up all capabilities.
 * A process that is not root keeps its ids whatever is asked for, and gives up the rest. The signal
 * that comes when its parent dies is kept.
 */
int sandbox_drop_privilege(uid_t uid, gid_t gid) must_check;

enum sandbox_verdict {
	SANDBOX_KILL,  /* any other call ends the process: for production */
	SANDBOX_EPERM, /* any other call fails: to find out what is missing */
};

/*
 * From now on only the `n` system calls of `allowed` work, in all threads of the process. Sets "no
 * new privileges". A build with sanitizers also allows what their run time needs.
 */
int sandbox_seccomp(const int *allowed, size_t n, enum sandbox_verdict verdict) must_check;

#endif
