/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * `lasthop port`: adds, deletes and shows ports. What can be set is taken in the same form as by
 * `lasthop run --port`, and checked here too, so that a wrong word is told before a switch is
 * needed.
 */
#include "cli/api_client.h"
#include "cli/cli.h"
#include "cli/port_driver.h"
#include "cli/table.h"
#include "control/settings.h"

#include <stdio.h>
#include <string.h>

static const struct cli_option no_options[] = {{NULL, NULL, false}};

static uint64_t number(const json_t *object, const char *name)
{
	return (uint64_t)json_integer_value(json_object_get(object, name));
}

/* "-" for what is not there. */
static const char *string(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text == NULL ? "-" : text;
}

static uint64_t sum_of(const json_t *numbers)
{
	json_t *object = (json_t *)(uintptr_t)numbers; /* only read */
	uint64_t sum = 0;

	for (void *i = json_object_iter(object); i != NULL; i = json_object_iter_next(object, i))
		sum += (uint64_t)json_integer_value(json_object_iter_value(i));
	return sum;
}

static void add_port_row(struct table *table, const json_t *port)
{
	const json_t *counters = json_object_get(port, "counters");
	char text[QUANTITY_SIZE], label[80];

	table_add(table, "%s", string(port, "name"));
	table_add(table, "%s", string(port, "bridge"));
	table_add(table, "%s", string(port, "state"));
	table_add(table, "%s", string(port, "vm_state"));
	if (number(port, "peer_pid") != 0)
		table_add(table, "%u", (unsigned int)number(port, "peer_pid"));
	else
		table_add(table, "-");
	table_add(table, "%u/%u", (unsigned int)number(port, "queues_enabled"), (unsigned int)number(port, "queues"));
	table_add(table, "%s", quantity(text, number(counters, "in_packets")));
	table_add(table, "%s", quantity_bytes(text, number(counters, "in_bytes")));
	table_add(table, "%s", quantity(text, number(counters, "out_packets")));
	table_add(table, "%s", quantity_bytes(text, number(counters, "out_bytes")));
	table_add(table, "%s", quantity(text, sum_of(json_object_get(counters, "drops"))));
	table_add(table, "%u", (unsigned int)number(port, "macs"));
	port_driver_label(json_object_get(port, "driver"), label, sizeof(label));
	table_add(table, "%s", label);
	table_add(table, "%s", string(port, "mode"));
	table_add(table, "%s", string(port, "path"));
}

static int print_port_table(const json_t *ports)
{
	struct table table;

	table_init(&table, "PORT|BRIDGE|STATE|VM|>PROCESS|>QUEUES|>IN PACKETS|>IN BYTES|>OUT PACKETS|>OUT "
			   "BYTES|>DROPS|>MACS|DRIVER|MODE|SOCKET");
	for (size_t i = 0; i < json_array_size(ports); i++)
		add_port_row(&table, json_array_get(ports, i));
	return table_print(&table) < 0 ? cli_fail(CLI_FAILED, "no memory") : CLI_OK;
}

static void print_words(const char *label, const json_t *words)
{
	printf("  %-12s", label);
	for (size_t i = 0; i < json_array_size(words); i++)
		printf("%s%s", i > 0 ? " " : "", json_string_value(json_array_get(words, i)));
	puts(json_array_size(words) == 0 ? "none" : "");
}

static void print_state(const json_t *port)
{
	const char *fault = json_string_value(json_object_get(port, "fault"));

	printf("  %-12s%s", "state", string(port, "state"));
	if (number(port, "peer_pid") != 0)
		printf(", process %llu (its VM: %s)", (unsigned long long)number(port, "peer_pid"),
		       string(port, "vm_state"));
	printf("; connections so far: %llu\n", (unsigned long long)number(port, "connections"));
	if (fault != NULL)
		printf("  %-12s%s was the last of %llu\n", "faults", fault, (unsigned long long)number(port, "faults"));
	else
		printf("  %-12snone\n", "faults");
}

static void print_settings(const json_t *port)
{
	printf("  %-12s%s (%s)\n", "socket", string(port, "path"), string(port, "mode"));
	printf("  %-12s%s, %llu of at most %llu source addresses learned, %llu flows\n", "bridge",
	       string(port, "bridge"), (unsigned long long)number(port, "macs"),
	       (unsigned long long)number(port, "mac_limit"), (unsigned long long)number(port, "flows"));
	printf("  %-12s%llu of %llu pairs enabled, rings of %llu (receive) and %llu (transmit)\n", "queues",
	       (unsigned long long)number(port, "queues_enabled"), (unsigned long long)number(port, "queues"),
	       (unsigned long long)number(port, "ring_receive"), (unsigned long long)number(port, "ring_transmit"));
	printf("  %-12sat most %llu us or %llu packets late\n", "notified",
	       (unsigned long long)number(port, "notify_us"), (unsigned long long)number(port, "notify_packets"));
	if (number(port, "mtu") != 0 || number(port, "guest_mtu") != 0)
		printf("  %-12s%llu offered, %llu from the front end\n", "mtu", (unsigned long long)number(port, "mtu"),
		       (unsigned long long)number(port, "guest_mtu"));
	if (json_array_size(json_object_get(port, "features_off")) > 0)
		print_words("not offered", json_object_get(port, "features_off"));
}

static void print_counters(const json_t *counters)
{
	json_t *drops = json_object_get(counters, "drops");
	char packets[QUANTITY_SIZE], bytes[QUANTITY_SIZE];

	printf("  %-12s%s packets, %s\n", "in", quantity(packets, number(counters, "in_packets")),
	       quantity_bytes(bytes, number(counters, "in_bytes")));
	printf("  %-12s%s packets, %s\n", "out", quantity(packets, number(counters, "out_packets")),
	       quantity_bytes(bytes, number(counters, "out_bytes")));
	printf("  %-12s", "drops");
	for (void *i = json_object_iter(drops); i != NULL; i = json_object_iter_next(drops, i))
		printf("%s %lld  ", json_object_iter_key(i), (long long)json_integer_value(json_object_iter_value(i)));
	puts(json_object_size(drops) == 0 ? "none" : "");
}

static void print_port(const json_t *port)
{
	char text[QUANTITY_SIZE];

	printf("%s\n", string(port, "name"));
	print_state(port);
	if (json_object_get(port, "driver") != NULL)
		port_driver_print(json_object_get(port, "driver"));
	print_settings(port);
	print_words("features", json_object_get(port, "features"));
	print_words("protocol", json_object_get(port, "protocol_features"));
	if (json_object_get(port, "guest_mac") != NULL)
		printf("  %-12s%s\n", "guest's MAC", string(port, "guest_mac"));
	printf("  %-12s%s; regions: %llu\n", "memory", quantity_bytes(text, number(port, "memory")),
	       (unsigned long long)number(port, "regions"));
	print_counters(json_object_get(port, "counters"));
}

/* The answers for each name, in one list; those of all ports without names. */
static int list_ports(const struct cli *cli, int count, char **names, json_t **ports)
{
	*ports = json_array();
	for (int i = 0; i < max(count, 1); i++) {
		json_t *parameters = count == 0 ? json_object() : json_pack("{s:s}", "name", names[i]);
		json_t *answer;
		int status = api_client_call(cli, "ListPorts", parameters, &answer);

		if (status != CLI_OK) {
			json_decref(*ports);
			return status;
		}
		json_array_extend(*ports, json_object_get(answer, "ports"));
		json_decref(answer);
	}
	return CLI_OK;
}

static int port_show(struct cli *cli, int argc, char **argv)
{
	const char *detail = NULL;
	const struct cli_option options[] = {{"detail", &detail, false}, {NULL, NULL, false}};
	json_t *ports;
	int status = cli_take_options(cli, &argc, argv, options);

	if (status == CLI_OK)
		status = list_ports(cli, argc, argv, &ports);
	if (status != CLI_OK)
		return status;
	if (cli->json)
		return cli_print_json(json_pack("{s:o}", "ports", ports));
	if (argc == 0 && detail == NULL)
		status = print_port_table(ports);
	for (size_t i = 0; i < json_array_size(ports) && (argc > 0 || detail != NULL); i++)
		print_port(json_array_get(ports, i));
	json_decref(ports);
	return status;
}

/* In the API's form; NULL, and what is wrong has been said. */
static json_t *parse_port(const char *text)
{
	struct port_settings settings;
	struct settings_error error;
	json_t *port;

	if (port_settings_parse(&settings, text, &error) < 0) {
		cli_fail(CLI_USAGE, "%s", error.text);
		return NULL;
	}
	port = port_settings_to_json(&settings);
	/* For the control plane to choose. */
	if (settings.wire.path[0] == '\0')
		json_object_del(port, "path");
	return port;
}

static int port_add(struct cli *cli, int argc, char **argv)
{
	struct port_driver_options driver = {0};
	const struct cli_option options[] = {
		{"tap", &driver.tap, true},
		{"af-xdp", &driver.af_xdp, true},
		{"af-packet", &driver.af_packet, true},
		{"dpdk", &driver.dpdk, true},
		{"name", &driver.name, true},
		{"netns", &driver.netns, true},
		{"queues", &driver.queues, true},
		{"bridge", &driver.bridge, true},
		{"mtu", &driver.mtu, true},
		{"driver-option", &driver.driver_option, true},
		{NULL, NULL, false},
	};
	json_t *port, *answer;
	char name[DP_NAME_SIZE];
	bool has_driver;
	int status = cli_take_options(cli, &argc, argv, options);

	if (status != CLI_OK)
		return status;
	if (port_driver_asked(&driver) ? argc != 0 : argc != 1)
		return cli_wrong_usage("port add NAME=PATH[,option=value...], or port add --tap NAME ...; see "
				       "`lasthop help port`");
	port = port_driver_asked(&driver) ? port_driver_to_json(&driver) : parse_port(argv[0]);
	if (port == NULL)
		return CLI_USAGE;
	snprintf(name, sizeof(name), "%s", string(port, "name"));
	has_driver = strcmp(string(json_object_get(port, "driver"), "kind"), "-") != 0 &&
		     strcmp(string(json_object_get(port, "driver"), "kind"), "external") != 0;
	status = api_client_call(cli, "AddPort", json_pack("{s:o}", "port", port), &answer);
	if (status != CLI_OK)
		return status;
	json_decref(answer);
	return has_driver ? port_driver_wait(cli, name) : CLI_OK;
}

static int port_del(struct cli *cli, int argc, char **argv)
{
	json_t *answer;
	int status = cli_take_options(cli, &argc, argv, no_options);

	if (status != CLI_OK)
		return status;
	if (argc != 1)
		return cli_wrong_usage("port del NAME");
	status = api_client_call(cli, "DeletePort", json_pack("{s:s}", "name", argv[0]), &answer);
	json_decref(answer);
	return status;
}

int cli_port(struct cli *cli, int argc, char **argv)
{
	static const char *const names[] = {"show", "add", "del", NULL};

	cli_take_subcommand(argc, argv, names);
	if (argc > 0 && strcmp(argv[0], "show") == 0)
		return port_show(cli, argc - 1, argv + 1);
	if (argc > 0 && strcmp(argv[0], "add") == 0)
		return port_add(cli, argc - 1, argv + 1);
	if (argc > 0 && strcmp(argv[0], "del") == 0)
		return port_del(cli, argc - 1, argv + 1);
	return cli_wrong_usage("port add|del|show ...; see `lasthop help port`");
}
