/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the commands of `lasthop` share. A command is a function that gets its own arguments and
 * returns the program's exit status; it has printed what it has to say by then, results on standard
 * output, what went wrong on standard error. One thread.
 */
#ifndef LASTHOP_CLI_CLI_H
#define LASTHOP_CLI_CLI_H

#include "lib/compiler.h"

#include <jansson.h>

enum cli_status {
	CLI_OK = 0,
	CLI_FAILED = 1,
	CLI_USAGE = 2,       /* the command line is wrong; nothing was tried */
	CLI_UNREACHABLE = 3, /* no switch answers */
};

/* What may stand before or behind any command. */
struct cli {
	const char *dir;
	bool json;
	bool help;
};

/* The options of a command besides those of struct cli; NULL-terminated by name. */
struct cli_option {
	const char *name;   /* without the dashes */
	const char **value; /* gets the argument, or "" if it takes none */
	bool has_argument;
};

/*
 * Takes the options out of argv, which keeps the other words in their order. `*argc` becomes their
 * number. CLI_OK or CLI_USAGE, with the reason on standard error.
 */
int cli_take_options(struct cli *cli, int *argc, char **argv, const struct cli_option *options);

/* Puts the default in the place of a --dir that was not given. CLI_OK, or CLI_USAGE for an empty one. */
int cli_settle_dir(struct cli *cli);

/*
 * Brings the word that says what to do, one of `names` (NULL-terminated), to the front if nothing but options of all
 * commands stands before it.
 */
void cli_take_subcommand(int argc, char **argv, const char *const *names);

/* The directory of the switch unless --dir says another; in static memory. */
const char *cli_default_dir(void);

/* Prints "lasthop: ..." on standard error and returns `status`. */
int cli_fail(int status, const char *format, ...) printf_like(2, 3);

/* Says that the words are too many or too few for `usage`, a command's synopsis. */
int cli_wrong_usage(const char *usage);

/* Prints JSON for programs. CLI_OK or CLI_FAILED. Consumes it. */
int cli_print_json(json_t *value);

/* The long help of a command ("port", "run", ...), or of all for NULL. NULL: no such command. */
const char *cli_help(const char *command);

/* the commands: argv[0] is the first word behind the command's name */

int cli_run(struct cli *cli, int argc, char **argv);
int cli_port(struct cli *cli, int argc, char **argv);
int cli_bridge(struct cli *cli, int argc, char **argv);
int cli_flow(struct cli *cli, int argc, char **argv);
int cli_mac(struct cli *cli, int argc, char **argv);
int cli_stats(struct cli *cli, int argc, char **argv);
int cli_version(struct cli *cli, int argc, char **argv);

#endif
