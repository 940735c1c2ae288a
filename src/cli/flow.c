/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * `lasthop flow show` and `lasthop mac show`: what the bridges have learned and decided.
 */
#include "cli/api_client.h"
#include "cli/cli.h"
#include "cli/table.h"

#include <stdio.h>
#include <string.h>

static uint64_t number(const json_t *object, const char *name)
{
	return (uint64_t)json_integer_value(json_object_get(object, name));
}

static const char *string(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text == NULL ? "any" : text;
}

static void add_destination(struct table *table, const json_t *flow)
{
	const char *prefix = json_string_value(json_object_get(flow, "dst_prefix"));

	if (prefix != NULL)
		table_add(table, "%s:*", prefix);
	else
		table_add(table, "%s", string(flow, "dst"));
}

/* "-> b", "flood b c", "drop mac-limit" */
static void add_action(struct table *table, const json_t *flow)
{
	const json_t *outputs = json_object_get(flow, "outputs");
	const char *action = string(flow, "action");
	char text[1024];
	size_t used;

	if (strcmp(action, "drop") == 0) {
		table_add(table, "drop %s", string(flow, "reason"));
		return;
	}
	used = (size_t)snprintf(text, sizeof(text), "%s", strcmp(action, "output") == 0 ? "->" : "flood");
	for (size_t i = 0; i < json_array_size(outputs) && used < sizeof(text); i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used, " %s",
					 json_string_value(json_array_get(outputs, i)));
	table_add(table, "%s", text);
}

static int print_flows(const json_t *flows)
{
	struct table table;
	char text[QUANTITY_SIZE];

	table_init(&table, "BRIDGE|IN|SRC|DST|>PACKETS|>BYTES|>IDLE|ACTION");
	for (size_t i = 0; i < json_array_size(flows); i++) {
		const json_t *flow = json_array_get(flows, i);
		const char *foreign = strcmp(string(flow, "match"), "foreign") == 0 ? "group" : NULL;

		table_add(&table, "%s", string(flow, "bridge"));
		table_add(&table, "%s", string(flow, "in_port"));
		table_add(&table, "%s", foreign != NULL ? foreign : string(flow, "src"));
		add_destination(&table, flow);
		table_add(&table, "%s", quantity(text, number(flow, "packets")));
		table_add(&table, "%s", quantity_bytes(text, number(flow, "bytes")));
		table_add(&table, "%s", quantity_seconds(text, number(flow, "idle")));
		add_action(&table, flow);
	}
	return table_print(&table) < 0 ? cli_fail(CLI_FAILED, "no memory") : CLI_OK;
}

static int print_macs(const json_t *macs)
{
	struct table table;
	char text[QUANTITY_SIZE];

	table_init(&table, "MAC|BRIDGE|PORT|>AGE|>MOVES|NOTE");
	for (size_t i = 0; i < json_array_size(macs); i++) {
		const json_t *mac = json_array_get(macs, i);

		table_add(&table, "%s", string(mac, "mac"));
		table_add(&table, "%s", string(mac, "bridge"));
		table_add(&table, "%s", string(mac, "port"));
		table_add(&table, "%s", quantity_seconds(text, number(mac, "age")));
		table_add(&table, "%llu", (unsigned long long)number(mac, "moves"));
		table_add(&table, "%s", json_is_true(json_object_get(mac, "held")) ? "held: moved too often" : "");
	}
	return table_print(&table) < 0 ? cli_fail(CLI_FAILED, "no memory") : CLI_OK;
}

/* Both have the same form. */
static int show(struct cli *cli, int argc, char **argv, const char *usage, const char *method, const char *list,
		int (*print)(const json_t *items))
{
	const char *bridge = NULL, *port = NULL;
	const struct cli_option options[] = {
		{"bridge", &bridge, true},
		{"port", &port, true},
		{NULL, NULL, false},
	};
	json_t *parameters, *answer;
	int status;

	if (cli_take_options(cli, &argc, argv, options) != CLI_OK)
		return CLI_USAGE;
	if (argc != 1 || strcmp(argv[0], "show") != 0)
		return cli_wrong_usage(usage);
	parameters = json_object();
	if (bridge != NULL)
		json_object_set_new(parameters, "bridge", json_string(bridge));
	if (port != NULL)
		json_object_set_new(parameters, "port", json_string(port));
	status = api_client_call(cli, method, parameters, &answer);
	if (status != CLI_OK)
		return status;
	if (cli->json)
		return cli_print_json(answer);
	status = print(json_object_get(answer, list));
	json_decref(answer);
	return status;
}

int cli_flow(struct cli *cli, int argc, char **argv)
{
	return show(cli, argc, argv, "flow show [--bridge NAME] [--port NAME]", "ListFlows", "flows", print_flows);
}

int cli_mac(struct cli *cli, int argc, char **argv)
{
	return show(cli, argc, argv, "mac show [--bridge NAME] [--port NAME]", "ListMacs", "macs", print_macs);
}
