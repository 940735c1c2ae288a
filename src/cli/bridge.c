/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * `lasthop bridge`: adds, deletes and shows bridges.
 */
#include "cli/api_client.h"
#include "cli/cli.h"
#include "cli/table.h"
#include "control/settings.h"

#include <stdio.h>
#include <string.h>

static int print_bridges(const json_t *bridges)
{
	struct table table;
	char text[QUANTITY_SIZE];

	table_init(&table, "BRIDGE|>MAC AGE|>MACS|PORTS");
	for (size_t i = 0; i < json_array_size(bridges); i++) {
		const json_t *bridge = json_array_get(bridges, i);
		const json_t *ports = json_object_get(bridge, "ports");

		table_add(&table, "%s", json_string_value(json_object_get(bridge, "name")));
		table_add(&table, "%s",
			  quantity_seconds(text, (uint64_t)json_integer_value(json_object_get(bridge, "mac_age"))));
		table_add(&table, "%lld", (long long)json_integer_value(json_object_get(bridge, "macs")));
		table_add(&table, "%s", "");
		for (size_t j = 0; j < json_array_size(ports); j++)
			table_extend(&table, "%s%s", j > 0 ? " " : "", json_string_value(json_array_get(ports, j)));
	}
	return table_print(&table) < 0 ? cli_fail(CLI_FAILED, "no memory") : CLI_OK;
}

static int bridge_show(struct cli *cli, int argc)
{
	json_t *answer;
	int status;

	if (argc != 0)
		return cli_wrong_usage("bridge show");
	status = api_client_call(cli, "ListBridges", NULL, &answer);
	if (status != CLI_OK)
		return status;
	if (cli->json)
		return cli_print_json(answer);
	status = print_bridges(json_object_get(answer, "bridges"));
	json_decref(answer);
	return status;
}

static int bridge_add(struct cli *cli, int argc, char **argv, const char *mac_age)
{
	struct bridge_settings bridge;
	struct settings_error error;
	char text[256];
	json_t *answer;
	int status;

	if (argc != 1)
		return cli_wrong_usage("bridge add NAME [--mac-age SECONDS]");
	snprintf(text, sizeof(text), "%s%s%s", argv[0], mac_age != NULL ? ",mac-age=" : "",
		 mac_age != NULL ? mac_age : "");
	if (bridge_settings_parse(&bridge, text, &error) < 0)
		return cli_fail(CLI_USAGE, "%s", error.text);
	status = api_client_call(cli, "AddBridge", json_pack("{s:o}", "bridge", bridge_settings_to_json(&bridge)),
				 &answer);
	json_decref(answer);
	return status;
}

static int bridge_del(struct cli *cli, int argc, char **argv)
{
	json_t *answer;
	int status;

	if (argc != 1)
		return cli_wrong_usage("bridge del NAME");
	status = api_client_call(cli, "DeleteBridge", json_pack("{s:s}", "name", argv[0]), &answer);
	json_decref(answer);
	return status;
}

int cli_bridge(struct cli *cli, int argc, char **argv)
{
	const char *mac_age = NULL;
	const struct cli_option options[] = {{"mac-age", &mac_age, true}, {NULL, NULL, false}};

	if (cli_take_options(cli, &argc, argv, options) != CLI_OK)
		return CLI_USAGE;
	if (argc > 0 && strcmp(argv[0], "add") == 0)
		return bridge_add(cli, argc - 1, argv + 1, mac_age);
	if (mac_age != NULL)
		return cli_fail(CLI_USAGE, "the option '--mac-age' is for bridge add");
	if (argc > 0 && strcmp(argv[0], "show") == 0)
		return bridge_show(cli, argc - 1);
	if (argc > 0 && strcmp(argv[0], "del") == 0)
		return bridge_del(cli, argc - 1, argv + 1);
	return cli_wrong_usage("bridge add|del|show ...; see `lasthop help bridge`");
}
