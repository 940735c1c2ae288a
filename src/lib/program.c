/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Nothing here runs once a program is confined, but for the stop of its loop, which takes no system call.
 */
#include "lib/program.h"

#include "lib/log.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static void program_signal_caught(struct loop_signals *signals, int signo)
{
	(void)signo;
	loop_stop(container_of(signals, struct program_end, signals)->loop);
}

int program_end_by_signals(struct program_end *end, struct loop *loop)
{
	static const int signos[] = {SIGTERM, SIGINT, 0};

	*end = (struct program_end){.signals.caught = program_signal_caught, .loop = loop};
	return loop_signals_add(loop, &end->signals, signos);
}

bool program_find_user(const char *name, const char *const *usual, uid_t *uid, gid_t *gid)
{
	const struct passwd *user;

	*uid = getuid();
	*gid = getgid();
	if (*uid != 0)
		return true;
	user = name != NULL ? getpwnam(name) : NULL;
	for (; name == NULL && user == NULL && *usual != NULL; usual++)
		user = getpwnam(*usual);
	if (user == NULL || user->pw_uid == 0) {
		log_error("there is no user '%s' without privileges: name another with --user",
			  name != NULL ? name : "nobody");
		return false;
	}
	*uid = user->pw_uid;
	*gid = user->pw_gid;
	return true;
}

void program_raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		log_warn("the limit of open descriptors stays low: %s", strerror(errno));
}

bool program_parse_number(const char *text, const char *option, uint64_t least, uint64_t most, uint64_t *number)
{
	char *end;

	errno = 0;
	*number = strtoull(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || *number < least || *number > most) {
		fprintf(stderr, "%s: --%s takes a number from %llu to %llu, not '%s'\n", program_invocation_short_name,
			option, (unsigned long long)least, (unsigned long long)most, text);
		return false;
	}
	return true;
}
