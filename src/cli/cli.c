/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Options are parsed here and not by getopt: they may stand anywhere, also before the command, and
 * what is wrong is said in our own words.
 */
#include "cli/cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int cli_fail(int status, const char *format, ...)
{
	va_list arguments;
	char *text;
	int size;

	va_start(arguments, format);
	size = vasprintf(&text, format, arguments);
	va_end(arguments);
	/* At once: the switch's other processes write to the same log. */
	fprintf(stderr, "lasthop: %s\n", size < 0 ? "no memory to say what went wrong" : text);
	if (size >= 0)
		free(text);
	return status;
}

int cli_wrong_usage(const char *usage)
{
	return cli_fail(CLI_USAGE, "usage: lasthop %s", usage);
}

static const struct cli_option *find_option(const struct cli_option *options, const char *word, size_t length)
{
	for (; options->name != NULL; options++) {
		if (strlen(options->name) == length && strncmp(options->name, word, length) == 0)
			return options;
	}
	return NULL;
}

/* Takes the option at argv[*at], and its argument if that is a word of its own. */
static int take_option(int argc, char **argv, int *at, const struct cli_option *common,
		       const struct cli_option *options)
{
	const char *word = argv[*at] + 2;
	const char *equals = strchr(word, '=');
	size_t length = equals == NULL ? strlen(word) : (size_t)(equals - word);
	const struct cli_option *option = find_option(common, word, length);

	if (option == NULL)
		option = find_option(options, word, length);
	if (option == NULL)
		return cli_fail(CLI_USAGE, "there is no option '--%.*s' here; --help tells which", (int)length, word);
	if (!option->has_argument && equals != NULL)
		return cli_fail(CLI_USAGE, "the option '--%s' takes no argument", option->name);
	if (!option->has_argument) {
		*option->value = "";
	} else if (equals != NULL) {
		*option->value = equals + 1;
	} else if (*at + 1 < argc) {
		*option->value = argv[++*at];
	} else {
		return cli_fail(CLI_USAGE, "the option '--%s' needs an argument", option->name);
	}
	return CLI_OK;
}

int cli_take_options(struct cli *cli, int *argc, char **argv, const struct cli_option *options)
{
	const char *json = NULL;
	const struct cli_option common[] = {
		{"dir", &cli->dir, true},
		{"json", &json, false},
		{NULL, NULL, false},
	};
	int kept = 0;

	for (int i = 0; i < *argc; i++) {
		if (argv[i][0] != '-' || strcmp(argv[i], "-") == 0 || strcmp(argv[i], "--") == 0) {
			argv[kept++] = argv[i];
			continue;
		}
		/* No name and no port begins so. */
		if (argv[i][1] != '-')
			return cli_fail(CLI_USAGE, "there is no option '%s' here; --help tells which", argv[i]);
		if (take_option(*argc, argv, &i, common, options) != CLI_OK)
			return CLI_USAGE;
	}
	*argc = kept;
	cli->json |= json != NULL;
	return cli_settle_dir(cli);
}

int cli_settle_dir(struct cli *cli)
{
	if (cli->dir == NULL)
		cli->dir = cli_default_dir();
	return cli->dir[0] != '\0' ? CLI_OK : cli_fail(CLI_USAGE, "the option '--dir' needs a directory");
}

void cli_take_subcommand(int argc, char **argv, const char *const *names)
{
	for (int i = 0; i < argc; i++) {
		for (const char *const *name = names; *name != NULL; name++) {
			char *word = argv[i];

			if (strcmp(word, *name) != 0)
				continue;
			memmove(argv + 1, argv, (size_t)i * sizeof(*argv));
			argv[0] = word;
			return;
		}
		if (argv[i][0] != '-')
			return;
		/* The one option of all commands with an argument. */
		if (strcmp(argv[i], "--dir") == 0)
			i++;
	}
}

const char *cli_default_dir(void)
{
	static char dir[4096];
	const char *runtime = getenv("XDG_RUNTIME_DIR");

	if (geteuid() == 0)
		return "/run/lasthop";
	if (runtime != NULL && runtime[0] == '/')
		snprintf(dir, sizeof(dir), "%s/lasthop", runtime);
	else
		snprintf(dir, sizeof(dir), "/tmp/lasthop-%u", (unsigned int)geteuid());
	return dir;
}

int cli_print_json(json_t *value)
{
	int result = value == NULL ? -1 : json_dumpf(value, stdout, JSON_INDENT(2));

	json_decref(value);
	if (result < 0 || putchar('\n') == EOF || fflush(stdout) != 0)
		return cli_fail(CLI_FAILED, "cannot write the result");
	return CLI_OK;
}
