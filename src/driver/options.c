/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Options of kinds are checked against the kind's own table here, so that no kind has to complain about what it
 * does not know. The help is put together from those tables.
 */
#include "driver/options.h"

#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/program.h"

#define MTU_MIN 68
#define MTU_MAX 65535

static const char usage[] =
	"Usage: lasthop-driver --port SOCKET --kind KIND --device NAME [options]\n"
	"\n"
	"Connects a device to a port of lasthop. Usually started by `lasthop run`; see lasthop-driver(8).\n"
	"\n"
	"  --port SOCKET        the port's socket\n"
	"  --kind KIND          of device; see below\n"
	"  --device NAME        the device\n"
	"  --netns NAME         the network namespace it is in: a name below /run/netns, or a path\n"
	"  --queues N           queue pairs, 1 to 64 (default 1)\n"
	"  --mtu N              give the device this MTU, 68 to 65535; else it keeps its own\n"
	"  --option KEY=VALUE   of the kind; can be repeated\n"
	"  --remove             remove the device, if it is one that lasthop-driver makes, and end; needs no --port\n"
	"  --user NAME          whom to become if started as root (default: lasthop-driver, lasthop, or nobody)\n"
	"  --no-sandbox         keep privileges, files and system calls; for debugging only\n"
	"  --log-level N        0 errors, 1 warnings, 2 information (default), 3 debugging\n"
	"  --version, --help\n"
	"\n"
	"Kinds and their options:\n";

static const char statuses[] = "\n"
			       "Further kinds are programs of their own beside this one: lasthop-driver-KIND --help.\n"
			       "\n"
			       "Exit status: 0 SIGTERM or SIGINT came, 1 failed, 2 wrong usage, 3 the device cannot be "
			       "had, or is gone, 4 the\n"
			       "port's socket is not there, or has hung up.\n";

static void print_options(const struct driver_option *option)
{
	for (; option && option->key; option++)
		printf("    %-16s %s\n", option->key, option->value);
}

static bool knows_option(const struct driver_option *known, const char *key)
{
	while (known && known->key && strcmp(known->key, key) != 0)
		known++;
	return known && known->key;
}

static void print_help(void)
{
	fputs(usage, stdout);
	for (unsigned int i = 0; driver_kinds[i]; i++) {
		printf("  %-12s %s\n", driver_kinds[i]->name, driver_kinds[i]->summary);
		print_options(driver_kinds[i]->options);
		if (driver_kinds[i]->comes_small)
			print_options(driver_options_small);
	}
	fputs(statuses, stdout);
}

static bool complain(const char *format, const char *text)
{
	fputs("lasthop-driver: ", stderr);
	/* NOLINTNEXTLINE(clang-diagnostic-format-nonliteral) */
	fprintf(stderr, "%s'%s'\n", format, text);
	return false;
}

/* Cuts argv's string in two. */
static bool parse_pair(struct driver_config *config, char *text)
{
	char *equals = strchr(text, '=');

	if (!equals || equals == text)
		return complain("--option takes KEY=VALUE, not ", text);
	if (config->option_count == DRIVER_OPTIONS_MAX)
		return complain("too many options from here on: ", text);
	*equals = '\0';
	config->options[config->option_count++] = (struct driver_option){.key = text, .value = equals + 1};
	return true;
}

/* The program of a kind that is not in this one, beside it: lasthop-driver-KIND. Returns if there is none. */
static void become_other(const char *kind, char **argv)
{
	char path[PATH_MAX];
	ssize_t size = readlink("/proc/self/exe", path, sizeof(path) - 1);
	char *name;

	if (size < 0 || strspn(kind, "abcdefghijklmnopqrstuvwxyz_") != strlen(kind))
		return;
	path[size] = '\0';
	name = strrchr(path, '/');
	if (!name)
		return;
	snprintf(name + 1, sizeof(path) - (size_t)(name + 1 - path), "lasthop-driver-%s", kind);
	execv(path, argv);
}

static bool parse_kind(const char *text, char **argv, const struct driver_kind **kind)
{
	*kind = driver_kind_find(text);
	if (!*kind)
		become_other(text, argv);
	return *kind ? true : complain("this build has no kind ", text);
}

static bool check(struct options *options)
{
	const struct driver_config *config = &options->config;

	if (!options->kind || !config->device || (!config->port && !options->remove)) {
		fputs(usage, stderr);
		return false;
	}
	for (unsigned int i = 0; i < config->option_count; i++) {
		const char *key = config->options[i].key;

		if (!knows_option(options->kind->options, key) &&
		    !(options->kind->comes_small && knows_option(driver_options_small, key))) {
			fprintf(stderr, "lasthop-driver: %s has no option '%s'\n", options->kind->name, key);
			return false;
		}
		if (!strcmp(key, "gro") && strcmp(config->options[i].value, "on") != 0 &&
		    strcmp(config->options[i].value, "off") != 0)
			return complain("--option gro takes on or off, not ", config->options[i].value);
	}
	return true;
}

int options_parse(struct options *options, int argc, char **argv)
{
	static const struct option table[] = {
		{"port", required_argument, NULL, 'p'},
		{"kind", required_argument, NULL, 'k'},
		{"device", required_argument, NULL, 'd'},
		{"netns", required_argument, NULL, 'n'},
		{"queues", required_argument, NULL, 'q'},
		{"mtu", required_argument, NULL, 'm'},
		{"option", required_argument, NULL, 'o'},
		{"remove", no_argument, NULL, 'r'},
		{"user", required_argument, NULL, 'u'},
		{"no-sandbox", no_argument, NULL, 's'},
		{"log-level", required_argument, NULL, 'v'},
		{"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	struct driver_config *config = &options->config;
	uint64_t number;
	bool ok = true;
	int option;

	*options = (struct options){.config = {.queues = 1}, .sandbox = true, .log_level = LOG_INFO};
	optind = 0;
	while (ok && (option = getopt_long(argc, argv, "", table, NULL)) != -1) {
		switch (option) {
		case 'p':
			config->port = optarg;
			break;
		case 'k':
			ok = parse_kind(optarg, argv, &options->kind);
			break;
		case 'd':
			config->device = optarg;
			break;
		case 'n':
			config->netns = *optarg ? optarg : NULL;
			break;
		case 'q':
			ok = program_parse_number(optarg, "queues", 1, DRIVER_QUEUES_MAX, &number);
			config->queues = (unsigned int)number;
			break;
		case 'm':
			ok = program_parse_number(optarg, "mtu", MTU_MIN, MTU_MAX, &number);
			config->mtu = (unsigned int)number;
			break;
		case 'o':
			ok = parse_pair(config, optarg);
			break;
		case 'r':
			options->remove = true;
			break;
		case 'u':
			options->user = optarg;
			break;
		case 's':
			options->sandbox = false;
			break;
		case 'v':
			ok = program_parse_number(optarg, "log-level", LOG_ERROR, LOG_DEBUG, &number);
			options->log_level = ok ? (int)number : LOG_INFO;
			break;
		case 'V':
			puts("lasthop-driver " LASTHOP_VERSION);
			return EXIT_SUCCESS;
		case 'h':
			print_help();
			return EXIT_SUCCESS;
		default:
			ok = false;
		}
	}
	if (ok && optind < argc)
		ok = complain("what is ", argv[optind]);
	return ok && check(options) ? -1 : DRIVER_EXIT_USAGE;
}
