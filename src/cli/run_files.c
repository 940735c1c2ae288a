/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One instance per directory, by a lock that the kernel takes back from the dead. What an instance
 * leaves behind when it is killed is removed by the next one, which knows the ports' sockets from
 * the state file.
 */
#include "cli/run_files.h"

#include "cli/cli.h"
#include "control/settings.h"
#include "lib/fdpass.h"
#include "proto/datapath_proto.h"
#include "proto/stats_segment.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define LOCK_TRIES   20 /* an instance that was just killed takes its children along */
#define LOCK_WAIT_US 50000

static bool join_path(char *path, const char *dir, const char *name)
{
	return snprintf(path, PATH_MAX, "%s/%s", dir, name) < PATH_MAX;
}

static int check_dir(const char *dir)
{
	struct stat st;

	if (lstat(dir, &st) < 0)
		return cli_fail(CLI_FAILED, "%s: %s", dir, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return cli_fail(CLI_FAILED, "%s is no directory: choose another with --dir", dir);
	if ((st.st_uid != geteuid() && st.st_uid != 0) || (st.st_mode & 022) != 0)
		return cli_fail(CLI_FAILED,
				"%s belongs to, or can be written by, other users: choose another "
				"directory with --dir",
				dir);
	if (access(dir, W_OK | X_OK) < 0)
		return cli_fail(CLI_FAILED, "%s is not writable: choose another with --dir", dir);
	return CLI_OK;
}

static int make_dir(struct run_files *files)
{
	/* The longest name of a socket in it. */
	size_t longest = strlen(files->dir) + 1 + strlen(DP_SOCKET_NAME);

	if (longest >= DP_PATH_SIZE)
		return cli_fail(CLI_USAGE,
				"the path of the directory is %zu bytes too long for the sockets "
				"in it: choose a shorter one with --dir",
				longest - DP_PATH_SIZE + 1);
	files->made_dir = mkdir(files->dir, 0700) == 0;
	if (!files->made_dir && errno != EEXIST)
		return cli_fail(CLI_FAILED, "cannot make %s: %s; choose another with --dir", files->dir,
				strerror(errno));
	return check_dir(files->dir);
}

static int lock_dir(struct run_files *files)
{
	char path[PATH_MAX], pid[16] = "";

	if (!join_path(path, files->dir, "lock"))
		return cli_fail(CLI_FAILED, "%s: %s", files->dir, strerror(ENAMETOOLONG));
	/* Inherited on purpose: see the header. */
	files->lock_fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
	if (files->lock_fd < 0)
		return cli_fail(CLI_FAILED, "%s: %s", path, strerror(errno));
	for (unsigned int i = 0; flock(files->lock_fd, LOCK_EX | LOCK_NB) < 0; i++) {
		ssize_t n;

		if (i < LOCK_TRIES) {
			usleep(LOCK_WAIT_US);
			continue;
		}
		n = pread(files->lock_fd, pid, sizeof(pid) - 1, 0);
		pid[strcspn(pid, "\n")] = '\0';
		close(files->lock_fd);
		return cli_fail(CLI_FAILED,
				"another switch runs in %s (process %s): end it, or choose another "
				"directory with --dir",
				files->dir, n > 0 ? pid : "unknown");
	}
	if (ftruncate(files->lock_fd, 0) < 0 || dprintf(files->lock_fd, "%d\n", getpid()) < 0)
		return cli_fail(CLI_FAILED, "%s: %s", path, strerror(errno));
	return CLI_OK;
}

int run_files_locked(const char *dir)
{
	char path[PATH_MAX];
	int fd, result;

	if (!join_path(path, dir, "lock"))
		return -ENAMETOOLONG;
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	/* Had for a moment only: a switch that starts tries for longer. */
	result = flock(fd, LOCK_SH | LOCK_NB) == 0 ? 0 : -errno;
	close(fd);
	return result == -EWOULDBLOCK ? 1 : result;
}

/* Removes a socket that nobody listens on. */
static void remove_socket(const char *path)
{
	struct stat st;
	int sock;

	if (path == NULL || lstat(path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return;
	sock = fdpass_connect(path, SOCK_STREAM);
	if (sock >= 0)
		close(sock);
	else if (sock == -ECONNREFUSED)
		unlink(path);
}

static void remove_port_sockets(const char *state_path)
{
	json_t *state = json_load_file(state_path, 0, NULL);
	const json_t *ports = json_object_get(state, "ports");

	for (size_t i = 0; i < json_array_size(ports); i++) {
		const json_t *port = json_array_get(ports, i);
		const char *mode = json_string_value(json_object_get(port, "mode"));

		if (mode != NULL && strcmp(mode, "server") == 0)
			remove_socket(json_string_value(json_object_get(port, "path")));
	}
	json_decref(state);
}

static void remove_files(const char *dir)
{
	static const char stats_half_made[] = "." STATS_FILE_NAME ".new";
	static const char *const names[] = {"state.json", ".state.json.new", "drivers.json",  ".drivers.json.new",
					    "api.sock",   DP_SOCKET_NAME,    STATS_FILE_NAME, stats_half_made};
	char path[PATH_MAX];

	if (join_path(path, dir, "state.json"))
		remove_port_sockets(path);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (join_path(path, dir, names[i]))
			unlink(path);
	}
	if (join_path(path, dir, PORT_SOCKETS_DIR))
		rmdir(path);
}

int run_files_open(struct run_files *files, const char *dir)
{
	int status;

	memset(files, 0, sizeof(*files));
	files->dir = dir;
	status = make_dir(files);
	if (status == CLI_OK)
		status = lock_dir(files);
	if (status == CLI_OK)
		remove_files(dir);
	return status;
}

void run_files_close(struct run_files *files)
{
	char path[PATH_MAX];

	remove_files(files->dir);
	/* While it is locked: nobody else can have taken it yet. */
	if (join_path(path, files->dir, "lock"))
		unlink(path);
	close(files->lock_fd);
	if (files->made_dir)
		rmdir(files->dir);
}

int run_files_find_program(const char *name, char *path, size_t size)
{
	static const char *const beside[] = {"", "../libexec/lasthop/", "../core/", "../control/"};
	char exe[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	if (n > 0) {
		const char *dir;

		exe[n] = '\0';
		dir = dirname(exe);
		for (size_t i = 0; i < ARRAY_SIZE(beside); i++) {
			if (snprintf(path, size, "%s/%s%s", dir, beside[i], name) < (int)size &&
			    access(path, X_OK) == 0)
				return 0;
		}
	}
	if (snprintf(path, size, "%s/%s", LASTHOP_LIBEXECDIR, name) < (int)size && access(path, X_OK) == 0)
		return 0;
	return -ENOENT;
}
