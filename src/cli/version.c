/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * `lasthop version`: ours, and that of the switch if one answers.
 */
#include "cli/api_client.h"
#include "cli/cli.h"
#include "control/api_message.h"

#include <limits.h>
#include <stdio.h>
#include <unistd.h>

static json_t *running_version(const struct cli *cli)
{
	char path[PATH_MAX];
	json_t *answer = NULL;

	/* That none runs is no failure here. */
	if (snprintf(path, sizeof(path), "%s/%s", cli->dir, API_SOCKET_NAME) >= (int)sizeof(path) ||
	    access(path, F_OK) < 0 || api_client_call(cli, "GetVersion", NULL, &answer) != CLI_OK)
		return NULL;
	return answer;
}

int cli_version(struct cli *cli, int argc, char **argv)
{
	const struct cli_option options[] = {{NULL, NULL, false}};
	const json_t *data_plane;
	json_t *running;

	if (cli_take_options(cli, &argc, argv, options) != CLI_OK)
		return CLI_USAGE;
	if (argc != 0)
		return cli_wrong_usage("version");
	running = running_version(cli);
	if (cli->json)
		return cli_print_json(json_pack("{s:s, s:o*}", "version", LASTHOP_VERSION, "switch", running));
	printf("lasthop %s\n", LASTHOP_VERSION);
	if (running != NULL) {
		data_plane = json_object_get(running, "data_plane");
		printf("switch in %s: %s, ", cli->dir, json_string_value(json_object_get(running, "version")));
		if (data_plane != NULL)
			printf("data plane is process %lld with %lld workers\n",
			       (long long)json_integer_value(json_object_get(data_plane, "pid")),
			       (long long)json_integer_value(json_object_get(data_plane, "workers")));
		else
			puts("not connected to its data plane");
	}
	json_decref(running);
	return CLI_OK;
}
