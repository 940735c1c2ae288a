/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The names of virtio-net's and vhost-user's feature bits, as the API and the CLI show and take
 * them: the standard's names in lower case, with dashes. Pure functions, any thread.
 */
#ifndef LASTHOP_CONTROL_FEATURES_H
#define LASTHOP_CONTROL_FEATURES_H

#include "lib/compiler.h"

#include <jansson.h>

/* "csum" for bit 0; NULL for a bit that we have no name for. */
const char *feature_name(unsigned int bit);

/*
 * The bits that a name stands for: a feature, "bitN", or a group with what depends on it, such as
 * "tso", "uso", "csum" or "mrg". 0: no such name.
 */
uint64_t feature_bits(const char *name);

/* All names that feature_bits() takes but for "bitN", in `text`, separated by spaces. */
void feature_list(char *text, size_t size);

/* An array of names, "bitN" for what has none. NULL: no memory. */
json_t *features_to_json(uint64_t features);

/* The same for the bits of vhost-user's protocol features. */
json_t *protocol_features_to_json(uint64_t features);

/* 0; -EINVAL: no array of names, and `name` receives the first wrong one. */
int features_from_json(const json_t *array, uint64_t *features, const char **name) must_check;

#endif
