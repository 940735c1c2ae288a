/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * `lasthop flow show` and `lasthop mac show`: what the bridges have learned and decided.
 */
#include "cli/api_client.h"
#include "cli/cli.h"
#include "cli/table.h"

#include <stdlib.h>
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

/* Where each item belongs: what people look for first. */
static int compare_items(const void *a, const void *b)
{
	static const char *const keys[] = {"bridge", "in_port", "port", "src", "dst", "dst_prefix", "mac"};
	const json_t *const *one = a, *const *two = b;
	int result = 0;

	for (size_t i = 0; i < ARRAY_SIZE(keys) && result == 0; i++)
		result = strcmp(string(*one, keys[i]), string(*two, keys[i]));
	return result;
}

/* The list's items in order, to be freed; NULL: no memory. */
static const json_t **sorted(const json_t *list)
{
	size_t count = json_array_size(list);
	const json_t **items = calloc(count + 1, sizeof(*items));

	for (size_t i = 0; i < count && items != NULL; i++)
		items[i] = json_array_get(list, i);
	if (items != NULL)
		qsort(items, count, sizeof(*items), compare_items);
	return items;
}

static void add_destination(struct table *table, const json_t *flow)
{
	const char *prefix = json_string_value(json_object_get(flow, "dst_prefix"));

	if (prefix != NULL)
		table_add(table, "%s:*", prefix);
	else
		table_add(table, "%s", string(flow, "dst"));
}

/* "pass", "-> b", "flood b c", "drop mac-limit" */
static void add_action(struct table *table, const json_t *flow)
{
	const json_t *outputs = json_object_get(flow, "outputs");
	const char *action = string(flow, "action");

	if (strcmp(action, "pass") == 0) {
		table_add(table, "pass");
		return;
	}
	if (strcmp(action, "drop") == 0) {
		table_add(table, "drop %s", string(flow, "reason"));
		return;
	}
	table_add(table, "%s", strcmp(action, "output") == 0 ? "->" : "flood");
	for (size_t i = 0; i < json_array_size(outputs); i++)
		table_extend(table, " %s", json_string_value(json_array_get(outputs, i)));
}

static int print_flows(const json_t *const *flows)
{
	struct table table;
	char text[QUANTITY_SIZE];

	table_init(&table, "BRIDGE|IN|SRC|DST|>PACKETS|>BYTES|>IDLE|ACTION");
	for (; *flows != NULL; flows++) {
		const json_t *flow = *flows;
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

static int print_macs(const json_t *const *macs)
{
	struct table table;
	char text[QUANTITY_SIZE];

	table_init(&table, "MAC|BRIDGE|PORT|>AGE|>MOVES|NOTE");
	for (; *macs != NULL; macs++) {
		const json_t *mac = *macs;

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
		int (*print)(const json_t *const *items))
{
	const char *bridge = NULL, *port = NULL;
	const struct cli_option options[] = {
		{"bridge", &bridge, true},
		{"port", &port, true},
		{NULL, NULL, false},
	};
	json_t *parameters, *answer;
	const json_t **items;
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
	items = sorted(json_object_get(answer, list));
	status = items == NULL ? cli_fail(CLI_FAILED, "no memory") : print(items);
	free(items);
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
