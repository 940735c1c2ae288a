/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The short forms become the API's, which has the one set of rules. A driver is started by `lasthop run` after the port
 * was added, so whether it could have its device shows a moment later.
 */
#include "cli/port_driver.h"

#include "cli/api_client.h"
#include "cli/table.h"
#include "control/settings.h"
#include "lib/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WAIT_NS (5 * NS_PER_S)
#define LOOK_US 50000

bool port_driver_asked(const struct port_driver_options *options)
{
	return options->tap != NULL || options->af_xdp != NULL || options->af_packet != NULL || options->dpdk != NULL ||
	       options->name != NULL || options->netns != NULL || options->queues != NULL || options->bridge != NULL ||
	       options->mtu != NULL || options->driver_option != NULL;
}

/* The one kind that was asked for; NULL: none, or several. */
static const char *asked_kind(const struct port_driver_options *options, const char **device)
{
	const struct {
		const char *kind, *device;
	} kinds[] = {
		{"tap", options->tap},
		{"af_xdp", options->af_xdp},
		{"af_packet", options->af_packet},
		{"dpdk", options->dpdk},
	};
	const char *kind = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (kinds[i].device == NULL)
			continue;
		if (kind != NULL)
			return NULL;
		kind = kinds[i].kind;
		*device = kinds[i].device;
	}
	return kind;
}

/* A number, or the text as it is, for the rules to refuse. */
static json_t *json_number(const char *text)
{
	char *end;
	long long n = strtoll(text, &end, 10);

	return text[0] == '\0' || *end != '\0' ? json_string(text) : json_integer(n);
}

json_t *port_driver_to_json(const struct port_driver_options *options)
{
	const char *device = NULL, *kind = asked_kind(options, &device);
	struct port_settings settings;
	struct settings_error error;
	json_t *port;
	int result;

	if (kind == NULL) {
		cli_fail(CLI_USAGE, "exactly one of --tap, --af-xdp, --af-packet and --dpdk is needed");
		return NULL;
	}
	/* The arguments of a DPDK device begin behind a comma. */
	port = json_pack("{s:o, s:{s:s, s:s, s:s*, s:[]}}", "name",
			 options->name != NULL ? json_string(options->name)
					       : json_stringn(device, strcspn(device, ",")),
			 "driver", "kind", kind, "device", device, "netns", options->netns, "options");
	if (options->bridge != NULL)
		json_object_set_new(port, "bridge", json_string(options->bridge));
	if (options->queues != NULL)
		json_object_set_new(port, "queues", json_number(options->queues));
	if (options->mtu != NULL)
		json_object_set_new(port, "mtu", json_number(options->mtu));
	if (options->driver_option != NULL)
		driver_settings_option(port, "driver-option", options->driver_option);
	result = port_settings_from_json(&settings, port, &error);
	json_decref(port);
	if (result < 0) {
		cli_fail(CLI_USAGE, "%s", error.text);
		return NULL;
	}
	port = port_settings_to_json(&settings);
	/* For the control plane to choose. */
	json_object_del(port, "path");
	return port;
}

static const json_t *member(const json_t *object, const char *name)
{
	return json_object_get(object, name);
}

/* Whether there is something to tell about the driver, and has been told. */
static bool told(const json_t *driver, const char *port, bool last)
{
	const char *end = json_string_value(member(driver, "last_end"));
	const char *state = json_string_value(member(driver, "state"));
	const char *link = json_string_value(member(driver, "link"));

	if (link != NULL) {
		if (strcmp(link, "down") == 0)
			cli_fail(0, "port %s is there; its device has no link at the moment", port);
		return true;
	}
	if (state != NULL && strcmp(state, "unsupervised") == 0) {
		cli_fail(0,
			 "port %s is there, but nobody starts its driver: this switch was not started by `lasthop run`",
			 port);
		return true;
	}
	/* A driver may come a moment before its port. */
	if (!last && (end == NULL || strstr(end, "port") != NULL))
		return false;
	cli_fail(
		0,
		"port %s is there, but its driver is not yet: it %s; it is tried again, and the switch's log says more",
		port, end != NULL ? end : "has not reported so far");
	return true;
}

int port_driver_wait(const struct cli *cli, const char *port)
{
	uint64_t end = clock_now_ns() + WAIT_NS;
	bool done = false;

	while (!done) {
		json_t *answer;
		bool last = clock_now_ns() >= end;

		if (api_client_call(cli, "ListPorts", json_pack("{s:s}", "name", port), &answer) != CLI_OK)
			return CLI_OK;
		done = told(member(json_array_get(member(answer, "ports"), 0), "driver"), port, last);
		json_decref(answer);
		if (!done)
			usleep(LOOK_US);
	}
	return CLI_OK;
}

static const char *text_of(const json_t *object, const char *name, const char *otherwise)
{
	const char *text = json_string_value(member(object, name));

	return text == NULL || text[0] == '\0' ? otherwise : text;
}

static unsigned long long number_of(const json_t *object, const char *name)
{
	return (unsigned long long)json_integer_value(member(object, name));
}

void port_driver_label(const json_t *driver, char *text, size_t size)
{
	if (driver == NULL)
		snprintf(text, size, "-");
	else
		snprintf(text, size, "%s %.40s", text_of(driver, "kind", "?"),
			 text_of(driver, "device", text_of(driver, "reported_device", "")));
}

static void print_process(const json_t *driver)
{
	const char *netns = text_of(driver, "netns", NULL);
	const char *end = text_of(driver, "last_end", NULL);
	char label[80];

	port_driver_label(driver, label, sizeof(label));
	printf("  %-12s%s%s%s: %s", "driver", label, netns != NULL ? " in namespace " : "", netns != NULL ? netns : "",
	       text_of(driver, "state", "?"));
	if (number_of(driver, "pid") != 0)
		printf(", process %llu", number_of(driver, "pid"));
	if (number_of(driver, "restarts") != 0 || end != NULL)
		printf("; restarts: %llu%s%s", number_of(driver, "restarts"), end != NULL ? ", the last time it " : "",
		       end != NULL ? end : "");
	putchar('\n');
}

static void print_device(const json_t *driver)
{
	printf("  %-12slink %s", "device", text_of(driver, "link", "?"));
	if (number_of(driver, "mtu") != 0)
		printf(", MTU %llu", number_of(driver, "mtu"));
	if (number_of(driver, "speed_mbps") != 0)
		printf(", %llu Mbit/s", number_of(driver, "speed_mbps"));
	printf(", queues: %llu, mode: %s; heard of %llu ms ago\n", number_of(driver, "queues"),
	       text_of(driver, "mode", "-"), number_of(driver, "heartbeat_age_ms"));
}

static void print_counters(const json_t *counters)
{
	json_t *drops = json_object_get(counters, "drops");
	char packets[QUANTITY_SIZE], bytes[QUANTITY_SIZE];

	printf("  %-12s%s packets, %s", "from device", quantity(packets, number_of(counters, "rx_packets")),
	       quantity_bytes(bytes, number_of(counters, "rx_bytes")));
	printf("; coalesced: %s\n", quantity(packets, number_of(counters, "rx_coalesced")));
	printf("  %-12s%s packets, %s\n", "to device", quantity(packets, number_of(counters, "tx_packets")),
	       quantity_bytes(bytes, number_of(counters, "tx_bytes")));
	printf("  %-12s", "driver lost");
	for (void *i = json_object_iter(drops); i != NULL; i = json_object_iter_next(drops, i))
		printf("%s %lld  ", json_object_iter_key(i), (long long)json_integer_value(json_object_iter_value(i)));
	puts(json_object_size(drops) == 0 ? "nothing" : "");
}

void port_driver_print(const json_t *driver)
{
	print_process(driver);
	if (member(driver, "link") == NULL) {
		printf("  %-12shas not been heard of\n", "device");
		return;
	}
	print_device(driver);
	print_counters(member(driver, "counters"));
}
