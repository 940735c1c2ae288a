/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * All cells are kept until the table is printed, as only then the columns' widths are known.
 */
#include "cli/table.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GAP 2 /* spaces between columns */

/* Takes the cell over. */
static void table_take(struct table *table, char *cell)
{
	if (table->count == table->room) {
		size_t room = table->room == 0 ? 128 : table->room * 2;
		char **cells = reallocarray(table->cells, room, sizeof(*cells));

		if (cells == NULL) {
			free(cell);
			cell = NULL;
		} else {
			table->cells = cells;
			table->room = room;
		}
	}
	if (cell == NULL) {
		table->failed = true;
		return;
	}
	table->cells[table->count++] = cell;
	table->filled = (table->filled + 1) % table->columns;
}

void table_init(struct table *table, const char *headings)
{
	memset(table, 0, sizeof(*table));
	table->columns = 1;
	for (const char *c = headings; *c != '\0'; c++)
		table->columns += *c == '|';
	for (unsigned int i = 0; i < table->columns; i++) {
		size_t length = strcspn(headings, "|");

		table->right[i] = headings[0] == '>';
		if (table->right[i])
			table_take(table, strndup(headings + 1, length - 1));
		else
			table_take(table, strndup(headings, length));
		headings += length + 1;
	}
}

void table_add(struct table *table, const char *format, ...)
{
	va_list arguments;
	char *cell = NULL;

	va_start(arguments, format);
	if (vasprintf(&cell, format, arguments) < 0)
		cell = NULL;
	va_end(arguments);
	table_take(table, cell);
}

void table_extend(struct table *table, const char *format, ...)
{
	char *more = NULL, *longer = NULL;
	va_list arguments;
	char **cell;

	if (table->failed)
		return;
	cell = &table->cells[table->count - 1];
	va_start(arguments, format);
	if (vasprintf(&more, format, arguments) < 0)
		more = NULL;
	va_end(arguments);
	if (more == NULL || asprintf(&longer, "%s%s", *cell, more) < 0) {
		table->failed = true;
	} else {
		free(*cell);
		*cell = longer;
	}
	free(more);
}

void table_end_row(struct table *table)
{
	while (table->filled != 0 && !table->failed)
		table_take(table, strdup(""));
}

static void print_row(const struct table *table, size_t row, const size_t *widths)
{
	char *const *cells = table->cells + row * table->columns;

	for (unsigned int i = 0; i < table->columns; i++) {
		int width = (int)widths[i];
		int gap = i + 1 < table->columns ? GAP : 0;

		if (table->right[i])
			printf("%*s%*s", width, cells[i], gap, "");
		else if (i + 1 < table->columns)
			printf("%-*s%*s", width, cells[i], gap, "");
		else
			fputs(cells[i], stdout);
	}
	putchar('\n');
}

int table_print(struct table *table)
{
	size_t widths[TABLE_COLUMNS_MAX] = {0};
	int result = table->failed ? -ENOMEM : 0;

	for (size_t i = 0; i < table->count; i++) {
		size_t *width = &widths[i % table->columns];

		*width = max(*width, strlen(table->cells[i]));
	}
	for (size_t row = 0; row < table->count / table->columns && result == 0; row++)
		print_row(table, row, widths);
	table_free(table);
	return result;
}

void table_free(struct table *table)
{
	for (size_t i = 0; i < table->count; i++)
		free(table->cells[i]);
	free(table->cells);
	memset(table, 0, sizeof(*table));
}

/* Three digits and a unit, of which each is 1000 times the one before. */
static const char *scaled(char text[QUANTITY_SIZE], uint64_t n, const char *const *units, uint64_t plain_below)
{
	double value = (double)n;
	size_t unit = 0;

	if (n < plain_below) {
		snprintf(text, QUANTITY_SIZE, "%llu%s", (unsigned long long)n, units[0]);
		return text;
	}
	while (value >= 999.5 && units[unit + 1] != NULL) {
		value /= 1000;
		unit++;
	}
	snprintf(text, QUANTITY_SIZE, "%.*f%s", value < 9.995 ? 2 : value < 99.95 ? 1 : 0, value, units[unit]);
	return text;
}

const char *quantity(char text[QUANTITY_SIZE], uint64_t n)
{
	static const char *const units[] = {"", "k", "M", "G", "T", "P", NULL};

	return scaled(text, n, units, 10000);
}

const char *quantity_bytes(char text[QUANTITY_SIZE], uint64_t bytes)
{
	static const char *const units[] = {" B", " kB", " MB", " GB", " TB", " PB", NULL};

	return scaled(text, bytes, units, 1000);
}

const char *quantity_seconds(char text[QUANTITY_SIZE], uint64_t seconds)
{
	unsigned long long s = seconds;

	if (s < 60)
		snprintf(text, QUANTITY_SIZE, "%llus", s);
	else if (s < 3600)
		snprintf(text, QUANTITY_SIZE, "%llum%02llus", s / 60, s % 60);
	else if (s < 86400)
		snprintf(text, QUANTITY_SIZE, "%lluh%02llum", s / 3600, s % 3600 / 60);
	else
		snprintf(text, QUANTITY_SIZE, "%llud%02lluh", s / 86400, s % 86400 / 3600);
	return text;
}
