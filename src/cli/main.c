/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lasthop: finds the command and runs it. Options may stand anywhere, those of all commands
 * (--dir, --json, --help) as well as a command's own.
 */
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct {
	const char *name;
	int (*run)(struct cli *cli, int argc, char **argv);
} commands[] = {
	{"run", cli_run}, {"port", cli_port},   {"bridge", cli_bridge},   {"flow", cli_flow},
	{"mac", cli_mac}, {"stats", cli_stats}, {"version", cli_version},
};

static int help(const char *command)
{
	const char *text = cli_help(command != NULL && strcmp(command, "help") == 0 ? NULL : command);

	if (text == NULL)
		return cli_fail(CLI_USAGE, "there is no command '%s'; see `lasthop help`", command);
	fputs(text, stdout);
	return CLI_OK;
}

/* `lasthop help`: the options of all commands change nothing here. */
static int help_for(struct cli *cli, int argc, char **argv)
{
	const char *unused;
	const struct cli_option options[] = {{"help", &unused, false}, {NULL, NULL, false}};
	int status = cli_take_options(cli, &argc, argv, options);

	return status != CLI_OK ? status : help(argc > 0 ? argv[0] : NULL);
}

/* The index of the command's name: options of all commands may stand before it. */
static int find_command(struct cli *cli, int argc, char **argv)
{
	int version = 0;

	for (int i = 1; i < argc; i++) {
		if (argv[i][0] != '-')
			return version != 0 ? -1 : i;
		if (strcmp(argv[i], "--dir") == 0 && i + 1 == argc)
			return cli_fail(-2, "the option '--dir' needs an argument");
		if (strcmp(argv[i], "--dir") == 0)
			cli->dir = argv[++i];
		else if (strncmp(argv[i], "--dir=", 6) == 0)
			cli->dir = argv[i] + 6;
		else if (strcmp(argv[i], "--json") == 0)
			cli->json = true;
		else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
			cli->help = true;
		else if (strcmp(argv[i], "--version") == 0)
			version = i;
		else
			return cli_fail(-2,
					"there is no option '%s' before a command; see "
					"`lasthop help`",
					argv[i]);
	}
	return version != 0 ? -1 : 0;
}

/* Runs the command and returns the exit status. */
static int run_command(int argc, char **argv)
{
	struct cli cli = {0};
	int at = find_command(&cli, argc, argv);
	const char *name;

	if (at == -2)
		return CLI_USAGE;
	if (at == -1)
		return cli.help ? help("version") : cli_version(&cli, 0, argv);
	if (at == 0 && !cli.help) {
		fputs(cli_help(NULL), stderr);
		return CLI_USAGE;
	}
	name = at == 0 ? NULL : argv[at];
	if (name == NULL || cli.help)
		return help(name);
	if (strcmp(name, "help") == 0)
		return help_for(&cli, argc - at - 1, argv + at + 1);
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strcmp(name, commands[i].name) != 0)
			continue;
		for (int j = at + 1; j < argc; j++) {
			if (strcmp(argv[j], "--help") == 0 || strcmp(argv[j], "-h") == 0)
				return help(name);
		}
		return commands[i].run(&cli, argc - at - 1, argv + at + 1);
	}
	return cli_fail(CLI_USAGE, "there is no command '%s'; see `lasthop help`", name);
}

/*
 * Nothing of ours may come to be in the place of a standard descriptor that is closed: what is printed would go there.
 * For reading only, so that it is an error to print.
 */
static bool keep_standard_descriptors(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDONLY | O_NOCTTY);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	return fd >= 0 && close(fd) == 0;
}

int main(int argc, char **argv)
{
	int status;

	if (!keep_standard_descriptors())
		return CLI_FAILED;
	status = run_command(argc, argv);
	/* What was not printed has not been done; a switch that has run is another matter. */
	if (status == CLI_OK && (fflush(stdout) != 0 || ferror(stdout)))
		return cli_fail(CLI_FAILED, "cannot write the result: %s", strerror(errno));
	return status;
}
