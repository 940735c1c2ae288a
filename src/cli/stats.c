/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * `lasthop stats`: reads the statistics segment itself, so that it works without the control plane
 * and costs the switch nothing. Ports whose counters are all 0 are shown, too; drops that never
 * happened are not.
 */
#include "cli/cli.h"
#include "cli/run_files.h"
#include "cli/table.h"
#include "lib/clock.h"
#include "proto/stats_reader.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *const port_states[] = {"down", "connected", "up", "quarantined"};

static const char *state_name(uint32_t state)
{
	return state < ARRAY_SIZE(port_states) ? port_states[state] : "unknown";
}

/* The meaning of a drop by its name: the segment may be of another version than we are. */
static const char *drop_meaning(const char *name)
{
	for (unsigned int i = 0; i < DROP_COUNT; i++) {
		if (strcmp(drop_name(i), name) == 0)
			return drop_text(i);
	}
	return "";
}

static void set_fields(json_t *object, const void *counters, const struct stats_field *fields)
{
	for (; fields->name != NULL; fields++)
		json_object_set_new(object, fields->name,
				    json_integer((json_int_t)stats_field_value(counters, fields)));
}

/* What the driver behind the port says, if there is one. */
static void set_driver(json_t *port, const struct stats_reader *stats, const char *name)
{
	int index = stats_reader_find(stats, name);
	json_t *driver, *drops = json_object();
	struct stats_driver status;
	char text[24];

	if (index < 0 || stats_reader_driver(stats, (uint32_t)index, &status) < 0 || status.seen_ns == 0) {
		json_decref(drops);
		return;
	}
	driver = json_pack("{s:s, s:s, s:s, s:s, s:I}", "kind", status.kind, "device", status.device, "mode",
			   status.mode, "link", status.link ? "up" : "down", "heartbeat_age_ms",
			   (json_int_t)((clock_now_ns() - status.seen_ns) / NS_PER_MS));
	set_fields(driver, &status, stats_driver_fields);
	for (uint32_t i = 0; i < stats->driver_drops; i++) {
		stats_reader_driver_drop_name(stats, i, text);
		if (status.drops[i] != 0)
			json_object_set_new(drops, text, json_integer((json_int_t)status.drops[i]));
	}
	json_object_set_new(driver, "drops", drops);
	json_object_set_new(port, "driver", driver);
}

static json_t *port_to_json(const struct stats_reader *stats, const struct stats_directory *entry,
			    const struct stats_port *counters)
{
	json_t *port = json_object(), *drops = json_object();
	char name[24];

	json_object_set_new(port, "name", json_string(entry->name));
	json_object_set_new(port, "state", json_string(state_name(entry->state)));
	set_fields(port, counters, stats_port_fields);
	for (uint32_t i = 0; i < stats->drops; i++) {
		if (counters->drops[i] == 0)
			continue;
		stats_reader_drop_name(stats, i, name);
		json_object_set_new(drops, name, json_integer((json_int_t)counters->drops[i]));
	}
	json_object_set_new(port, "drops", drops);
	set_driver(port, stats, entry->name);
	return port;
}

/* Calls `each` for all ports, or for the one of that name; returns their number. */
static unsigned int for_ports(const struct stats_reader *stats, const char *name,
			      void (*each)(void *arg, const struct stats_reader *stats,
					   const struct stats_directory *entry, const struct stats_port *counters),
			      void *arg)
{
	unsigned int count = 0;

	for (uint32_t i = 0; i < stats->ports_max; i++) {
		struct stats_directory entry;
		struct stats_port counters;

		if (stats_reader_directory(stats, i, &entry) < 0 || (name != NULL && strcmp(name, entry.name) != 0))
			continue;
		stats_reader_port(stats, i, &counters);
		each(arg, stats, &entry, &counters);
		count++;
	}
	return count;
}

static void collect_port(void *arg, const struct stats_reader *stats, const struct stats_directory *entry,
			 const struct stats_port *counters)
{
	json_array_append_new(arg, port_to_json(stats, entry, counters));
}

static int print_json(const struct stats_reader *stats, const char *name)
{
	json_t *ports = json_array(), *total, *workers;
	struct stats_worker counters;

	if (for_ports(stats, name, collect_port, ports) == 0 && name != NULL) {
		json_decref(ports);
		return cli_fail(CLI_FAILED, "there is no port '%s'", name);
	}
	total = json_object();
	workers = json_array();
	stats_reader_total(stats, &counters);
	set_fields(total, &counters, stats_worker_fields);
	for (uint32_t i = 0; stats_reader_worker(stats, i, &counters) == 0; i++) {
		json_t *worker = json_object();

		set_fields(worker, &counters, stats_worker_fields);
		json_array_append_new(workers, worker);
	}
	return cli_print_json(json_pack("{s:o, s:o, s:o, s:I, s:b}", "ports", ports, "total", total, "workers", workers,
					"faults", (json_int_t)load_relaxed(&stats->header->faults), "vm_states",
					load_relaxed(&stats->header->vm_states) != 0));
}

static void add_port(void *arg, const struct stats_reader *stats, const struct stats_directory *entry,
		     const struct stats_port *counters)
{
	struct table *table = arg;
	char text[QUANTITY_SIZE];

	(void)stats;
	table_add(table, "%s", entry->name);
	table_add(table, "%s", state_name(entry->state));
	table_add(table, "%s", quantity(text, counters->in_packets));
	table_add(table, "%s", quantity_bytes(text, counters->in_bytes));
	table_add(table, "%s", quantity(text, counters->out_packets));
	table_add(table, "%s", quantity_bytes(text, counters->out_bytes));
	table_add(table, "%s", quantity(text, counters->out_segmented));
	table_add(table, "%s", quantity(text, counters->out_checksummed));
	table_add(table, "%s", quantity(text, counters->kicks));
	table_add(table, "%s", quantity(text, counters->calls));
	table_add(table, "%s", quantity(text, counters->upcalls));
	table_add(table, "%s", quantity(text, counters->waits));
}

static void add_drops(void *arg, const struct stats_reader *stats, const struct stats_directory *entry,
		      const struct stats_port *counters)
{
	struct table *table = arg;
	char name[24];

	for (uint32_t i = 0; i < stats->drops; i++) {
		if (counters->drops[i] == 0)
			continue;
		stats_reader_drop_name(stats, i, name);
		table_add(table, "%s", entry->name);
		table_add(table, "%s", name);
		table_add(table, "%llu", (unsigned long long)counters->drops[i]);
		table_add(table, "%s", drop_meaning(name));
	}
}

static void print_totals(const struct stats_reader *stats)
{
	struct stats_worker sum;
	char a[QUANTITY_SIZE], b[QUANTITY_SIZE], c[QUANTITY_SIZE];

	stats_reader_total(stats, &sum);
	printf("\nworkers: %s packets in %s turns, %s sleeps\n", quantity(a, sum.packets), quantity(b, sum.turns),
	       quantity(c, sum.sleeps));
	printf("bytes:   %s delivered, %s copied", quantity_bytes(a, sum.delivered_bytes),
	       quantity_bytes(b, sum.copied_bytes));
	if (sum.delivered_bytes > 0)
		printf(" (%.3f copies of each)", (double)sum.copied_bytes / (double)sum.delivered_bytes);
	printf(", %s of headers staged\n", quantity_bytes(c, sum.staged_bytes));
	if (sum.taken_again > 0)
		printf("waits:   packets that waited were taken %s times more\n", quantity(a, sum.taken_again));
	printf("lookups: %s by the last flow, %s by the table, %s misses\n", quantity(a, sum.flow_hits_last),
	       quantity(b, sum.flow_hits_table), quantity(c, sum.flow_misses));
	printf("engine:  %s queues taken over, %s calls left to the VM's CPU, %s workers rescued,",
	       quantity(a, sum.taken_over), quantity(b, sum.calls_posted), quantity(c, sum.rescues));
	printf(" %s copies made by two\n", quantity(a, sum.copies_handed));
	printf("VMs:     their states are %s\n",
	       load_relaxed(&stats->header->vm_states) ? "known" : "not known, the log of the switch says why");
}

static int print_tables(const struct stats_reader *stats, const char *name)
{
	struct table ports, drops;
	unsigned int count;
	int result;

	table_init(&ports, "PORT|STATE|>IN PACKETS|>IN BYTES|>OUT PACKETS|>OUT "
			   "BYTES|>SEGMENTED|>CHECKSUMMED|>KICKS|>CALLS|>UPCALLS|>WAITS");
	table_init(&drops, "PORT|DROPS|>PACKETS|MEANING");
	count = for_ports(stats, name, add_port, &ports);
	for_ports(stats, name, add_drops, &drops);
	if (count == 0 && name != NULL) {
		table_free(&ports);
		table_free(&drops);
		return cli_fail(CLI_FAILED, "there is no port '%s'", name);
	}
	result = table_print(&ports);
	if (drops.count > drops.columns) {
		putchar('\n');
		result |= table_print(&drops);
	} else {
		table_free(&drops);
	}
	if (name == NULL)
		print_totals(stats);
	return result < 0 ? cli_fail(CLI_FAILED, "no memory") : CLI_OK;
}

static int cannot_open(const char *dir, int error)
{
	if (error == -ENOENT)
		return cli_fail(CLI_UNREACHABLE,
				"no switch runs in %s: start one with `lasthop run`, or name its "
				"directory with --dir",
				dir);
	if (error == -EPROTO || error == -ENODATA)
		return cli_fail(CLI_UNREACHABLE, "%s/%s was not written by this version of lasthop", dir,
				STATS_FILE_NAME);
	return cli_fail(CLI_UNREACHABLE, "%s/%s: %s", dir, STATS_FILE_NAME, strerror(-error));
}

int cli_stats(struct cli *cli, int argc, char **argv)
{
	const struct cli_option options[] = {{NULL, NULL, false}};
	struct stats_reader stats;
	int status, error;

	if (cli_take_options(cli, &argc, argv, options) != CLI_OK)
		return CLI_USAGE;
	if (argc > 1)
		return cli_wrong_usage("stats [PORT]");
	error = stats_reader_open(&stats, cli->dir);
	if (error < 0)
		return cannot_open(cli->dir, error);
	/* Left behind by one that was killed. */
	if (run_files_locked(cli->dir) == 0) {
		stats_reader_close(&stats);
		return cannot_open(cli->dir, -ENOENT);
	}
	status = cli->json ? print_json(&stats, argc == 1 ? argv[0] : NULL)
			   : print_tables(&stats, argc == 1 ? argv[0] : NULL);
	stats_reader_close(&stats);
	return status;
}
