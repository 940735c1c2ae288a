/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The names and explanations of drop.h's list, for whoever shows them.
 */
#include "datapath/drop.h"

static const struct {
	const char *name;
	const char *text;
} drops[DROP_COUNT] = {
#define X(suffix, drop, explanation) [DROP_##suffix] = {.name = drop, .text = explanation},
	DROP_REASONS(X)
#undef X
};

const char *drop_name(enum drop_reason reason)
{
	return (unsigned int)reason < DROP_COUNT ? drops[reason].name : "unknown";
}

const char *drop_text(enum drop_reason reason)
{
	return (unsigned int)reason < DROP_COUNT ? drops[reason].text : "";
}
