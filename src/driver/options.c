/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Options of kinds are checked against the kind's own table here, so that no kind has to complain about what it
 * does not know. The help is put together from those tables.
 */
#include "driver/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/log.h"

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
	"  --queues N           queue pairs (default 1)\n"
	"  --mtu N              give the device this MTU; else it keeps its own\n"
	"  --option KEY=VALUE   of the kind; can be repeated\n"
	"  --remove             remove the device, if it is one that lasthop-driver makes, and end; needs no --port\n"
	"  --user NAME          whom to become if started as root (default: lasthop-driver, lasthop, or nobody)\n"
	"  --no-sandbox         keep privileges, files and system calls; for debugging only\n"
	"  --log-level N        0 errors, 1 warnings, 2 information (default), 3 debugging\n"
	"  --version, --help\n"
	"\n"
	"Kinds and their options:\n";

static const char statuses[] = "\n"
			       "Exit status: 0 SIGTERM or SIGINT came, 1 failed, 2 wrong usage, 3 the device cannot be "
			       "had, or is gone, 4 the\n"
			       "port's socket is not there, or has hung up.\n";

static void print_help(void)
{
	fputs(usage, stdout);
	for (unsigned int i = 0; driver_kinds[i]; i++) {
		const struct driver_option *option = driver_kinds[i]->options;

		printf("  %-12s %s\n", driver_kinds[i]->name, driver_kinds[i]->summary);
		for (; option && option->key; option++)
			printf("    %-16s %s\n", option->key, option->value);
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

static bool parse_number(const char *text, const char *option, unsigned int least, unsigned int most,
			 unsigned int *number)
{
	unsigned long value;
	char *end;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (errno || end == text || *end || text[0] == '-' || value < least || value > most) {
		fprintf(stderr, "lasthop-driver: --%s takes a number from %u to %u, not '%s'\n", option, least, most,
			text);
		return false;
	}
	*number = (unsigned int)value;
	return true;
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

static bool parse_kind(const char *text, const struct driver_kind **kind)
{
	*kind = driver_kind_find(text);
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
		const struct driver_option *known = options->kind->options;

		while (known && known->key && strcmp(known->key, config->options[i].key) != 0)
			known++;
		if (!known || !known->key) {
			fprintf(stderr, "lasthop-driver: %s has no option '%s'\n", options->kind->name,
				config->options[i].key);
			return false;
		}
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
	unsigned int number;
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
			ok = parse_kind(optarg, &options->kind);
			break;
		case 'd':
			config->device = optarg;
			break;
		case 'n':
			config->netns = *optarg ? optarg : NULL;
			break;
		case 'q':
			ok = parse_number(optarg, "queues", 1, DRIVER_QUEUES_MAX, &config->queues);
			break;
		case 'm':
			ok = parse_number(optarg, "mtu", MTU_MIN, MTU_MAX, &config->mtu);
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
			ok = parse_number(optarg, "log-level", LOG_ERROR, LOG_DEBUG, &number);
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
