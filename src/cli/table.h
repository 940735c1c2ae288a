/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Tables for people: columns as wide as their widest cell, numbers aligned to the right, and
 * quantities in three digits and a unit. A table owns copies of its cells. One thread.
 */
#ifndef LASTHOP_CLI_TABLE_H
#define LASTHOP_CLI_TABLE_H

#include "lib/compiler.h"

#define TABLE_COLUMNS_MAX 16
#define QUANTITY_SIZE     24

struct table {
	unsigned int columns;
	unsigned int filled; /* of the last row */
	bool right[TABLE_COLUMNS_MAX];
	char **cells;
	size_t count; /* of cells */
	size_t room;
	bool failed; /* no memory: told by table_print() */
};

/* `headings`: separated by '|'; one that begins with '>' is of a column of numbers. */
void table_init(struct table *table, const char *headings);

/* The next cell, row by row. */
void table_add(struct table *table, const char *format, ...) printf_like(2, 3);

/* More text for the last cell. */
void table_extend(struct table *table, const char *format, ...) printf_like(2, 3);

/* Ends the row early: what is missing is empty. */
void table_end_row(struct table *table);

/* Prints it and frees what it has. 0 or a negative errno. */
int table_print(struct table *table);

/* Frees it without printing. */
void table_free(struct table *table);

/* "1234", "56.7k", "8.90M": numbers of things. */
const char *quantity(char text[QUANTITY_SIZE], uint64_t n);

/* "123 B", "4.56 kB", "78.9 MB": bytes, in powers of 1000. */
const char *quantity_bytes(char text[QUANTITY_SIZE], uint64_t bytes);

/* "12s", "3m40s", "5h12m", "9d": durations. */
const char *quantity_seconds(char text[QUANTITY_SIZE], uint64_t seconds);

#endif
