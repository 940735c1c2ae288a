/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The command line's form is turned into the API's, and that one is checked: there is one set of
 * rules, and one text for each way to break it.
 */
#include "control/settings.h"

#include "control/forwarding.h"
#include "virtio/virtio_net.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int settings_fail(struct settings_error *error, const char *parameter, const char *format, ...)
{
	va_list arguments;

	snprintf(error->parameter, sizeof(error->parameter), "%s", parameter);
	va_start(arguments, format);
	vsnprintf(error->text, sizeof(error->text), format, arguments);
	va_end(arguments);
	return -EINVAL;
}

int settings_check_name(const char *parameter, const char *name, struct settings_error *error)
{
	size_t length = strlen(name);

	if (length == 0 || length >= DP_NAME_SIZE)
		return settings_fail(error, parameter, "%s: a name has 1 to %d characters", parameter,
				     DP_NAME_SIZE - 1);
	for (size_t i = 0; i < length; i++) {
		unsigned char c = (unsigned char)name[i];

		if (!isalnum(c) && strchr("._-", c) == NULL)
			return settings_fail(error, parameter,
					     "'%s': a name consists of letters, digits, '.', '_' "
					     "and '-'",
					     name);
	}
	if (name[0] == '-' || name[0] == '.')
		return settings_fail(error, parameter, "'%s': a name begins with a letter, a digit or '_'", name);
	return 0;
}

/* JSON to settings */

static int get_name(const json_t *object, const char *parameter, const char *otherwise, char name[DP_NAME_SIZE],
		    struct settings_error *error)
{
	const json_t *value = json_object_get(object, parameter);
	const char *text = json_is_null(value) || value == NULL ? otherwise : json_string_value(value);

	if (text == NULL)
		return settings_fail(error, parameter, "a name is needed here");
	if (settings_check_name(parameter, text, error) < 0)
		return -EINVAL;
	snprintf(name, DP_NAME_SIZE, "%s", text);
	return 0;
}

static int get_number(const json_t *object, const char *parameter, uint32_t otherwise, uint32_t min, uint32_t max,
		      uint32_t *number, struct settings_error *error)
{
	const json_t *value = json_object_get(object, parameter);
	json_int_t n;

	*number = otherwise;
	if (value == NULL || json_is_null(value))
		return 0;
	if (!json_is_integer(value))
		return settings_fail(error, parameter, "%s: a number from %u to %u is needed here", parameter, min,
				     max);
	n = json_integer_value(value);
	if (n != otherwise && (n < min || n > max))
		return settings_fail(error, parameter, "%s: %" JSON_INTEGER_FORMAT " is out of range: %u to %u",
				     parameter, n, min, max);
	*number = (uint32_t)n;
	return 0;
}

static int get_mode(const json_t *object, uint32_t *mode, struct settings_error *error)
{
	const json_t *value = json_object_get(object, "mode");
	const char *text = value == NULL || json_is_null(value) ? "server" : json_string_value(value);

	if (text != NULL && strcmp(text, "server") == 0)
		*mode = DP_PORT_SERVER;
	else if (text != NULL && strcmp(text, "client") == 0)
		*mode = DP_PORT_CLIENT;
	else
		return settings_fail(error, "mode",
				     "the mode is 'server' (lasthop listens) or 'client' (lasthop "
				     "connects)");
	return 0;
}

static int get_path(const json_t *object, char path[DP_PATH_SIZE], struct settings_error *error)
{
	const json_t *value = json_object_get(object, "path");
	const char *text = json_string_value(value);

	/* Of a driver's port it may be left out. */
	if ((value == NULL || json_is_null(value)) && json_is_object(json_object_get(object, "driver"))) {
		path[0] = '\0';
		return 0;
	}
	if (text == NULL || text[0] != '/')
		return settings_fail(error, "path", "the socket's absolute path is needed here");
	if (strlen(text) >= DP_PATH_SIZE)
		return settings_fail(error, "path",
				     "the path has %zu bytes, a socket's may have %d: use a shorter "
				     "directory",
				     strlen(text), DP_PATH_SIZE - 1);
	if (text[strlen(text) - 1] == '/')
		return settings_fail(error, "path", "'%s' names a directory, not a socket", text);
	snprintf(path, DP_PATH_SIZE, "%s", text);
	return 0;
}

static int get_features_off(const json_t *object, uint64_t *features, struct settings_error *error)
{
	const json_t *value = json_object_get(object, "features_off");
	const char *wrong;

	*features = 0;
	if (value == NULL || json_is_null(value) || features_from_json(value, features, &wrong) == 0)
		return 0;
	return settings_fail(error, "features_off", "'%.40s' is no feature's name", wrong);
}

int settings_check_members(const json_t *settings, const char *const *known, struct settings_error *error)
{
	json_t *object = (json_t *)(uintptr_t)settings; /* only read */

	if (!json_is_object(settings))
		return settings_fail(error, "parameters", "an object is needed here");
	for (void *i = json_object_iter(object); i != NULL; i = json_object_iter_next(object, i)) {
		const char *key = json_object_iter_key(i);
		size_t j = 0;

		while (known[j] != NULL && strcmp(known[j], key) != 0)
			j++;
		if (known[j] == NULL)
			return settings_fail(error, key, "there is no setting '%.40s'", key);
	}
	return 0;
}

/* What a driver asks of its port. */
static int check_driver(struct port_settings *port, struct settings_error *error)
{
	struct dp_port_add *wire = &port->wire;

	if (port->driver.kind == PORT_DRIVER_NONE)
		return 0;
	wire->flags |= DP_PORT_DRIVER;
	if (driver_is_supervised(&port->driver) && wire->mode != DP_PORT_SERVER)
		return settings_fail(error, "mode", "a driver connects to its port: the mode has to be 'server'");
	if (wire->features_off & VIRTIO_BIT(VIRTIO_NET_F_CTRL_VQ))
		return settings_fail(error, "features_off",
				     "a driver reports through its control queue: leave 'ctrl-vq' on");
	return 0;
}

int port_settings_from_json(struct port_settings *port, const json_t *object, struct settings_error *error)
{
	static const char *const known[] = {"name",      "path",    "mode",      "bridge",         "queues",
					    "mtu",       "wait_us", "notify_us", "notify_packets", "features_off",
					    "mac_limit", "driver",  NULL};
	struct dp_port_add *wire = &port->wire;
	uint32_t mtu = 0, notify_packets = 0;

	memset(port, 0, sizeof(*port));
	if (settings_check_members(object, known, error) < 0 || get_name(object, "name", NULL, wire->name, error) < 0 ||
	    get_path(object, wire->path, error) < 0 || get_mode(object, &wire->mode, error) < 0 ||
	    get_name(object, "bridge", BRIDGE_DEFAULT, wire->owner, error) < 0 ||
	    get_number(object, "queues", 1, 1, PORT_PAIRS_MAX, &wire->pairs, error) < 0 ||
	    get_number(object, "mtu", 0, PORT_MTU_MIN, UINT16_MAX, &mtu, error) < 0 ||
	    get_number(object, "wait_us", 0, 1, PORT_WAIT_US_MAX, &wire->wait_us, error) < 0 ||
	    get_number(object, "notify_us", DP_NOTIFY_US_DEFAULT, 0, DP_NOTIFY_US_MAX, &wire->notify_us, error) < 0 ||
	    get_number(object, "notify_packets", DP_NOTIFY_PACKETS_DEFAULT, 1, DP_NOTIFY_PACKETS_MAX, &notify_packets,
		       error) < 0 ||
	    get_features_off(object, &wire->features_off, error) < 0 ||
	    get_number(object, "mac_limit", PORT_MAC_LIMIT_DEFAULT, 1, PORT_MAC_LIMIT_MAX, &port->mac_limit, error) <
		    0 ||
	    driver_settings_from_json(&port->driver, json_object_get(object, "driver"), error) < 0)
		return -EINVAL;
	wire->mtu = (uint16_t)mtu;
	wire->notify_packets = (uint16_t)notify_packets;
	return check_driver(port, error);
}

int bridge_settings_from_json(struct bridge_settings *bridge, const json_t *object, struct settings_error *error)
{
	static const char *const known[] = {"name", "mac_age", NULL};

	memset(bridge, 0, sizeof(*bridge));
	if (settings_check_members(object, known, error) < 0 || get_name(object, "name", NULL, bridge->name, error) < 0)
		return -EINVAL;
	return get_number(object, "mac_age", BRIDGE_MAC_AGE_DEFAULT, BRIDGE_MAC_AGE_MIN, BRIDGE_MAC_AGE_MAX,
			  &bridge->mac_age, error);
}

json_t *port_settings_to_json(const struct port_settings *port)
{
	const struct dp_port_add *wire = &port->wire;

	/* The last member is left out if it is NULL. */
	return json_pack("{s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:o, s:i, s:o*}", "name", wire->name, "path",
			 wire->path, "mode", wire->mode == DP_PORT_CLIENT ? "client" : "server", "bridge", wire->owner,
			 "queues", (int)wire->pairs, "mtu", (int)wire->mtu, "wait_us", (int)wire->wait_us, "notify_us",
			 (int)wire->notify_us, "notify_packets", (int)wire->notify_packets, "features_off",
			 features_to_json(wire->features_off), "mac_limit", (int)port->mac_limit, "driver",
			 driver_settings_to_json(&port->driver));
}

json_t *bridge_settings_to_json(const struct bridge_settings *bridge)
{
	return json_pack("{s:s, s:i}", "name", bridge->name, "mac_age", (int)bridge->mac_age);
}

/* The command line's form to JSON */

static int set_number(json_t *object, const char *parameter, const char *text, struct settings_error *error)
{
	char *end;
	long long n = strtoll(text, &end, 10);

	if (text[0] == '\0' || *end != '\0')
		return settings_fail(error, parameter, "%s: '%.40s' is no number", parameter, text);
	json_object_set_new(object, parameter, json_integer(n));
	return 0;
}

/* One "key=value" of a port. */
static int set_port_option(json_t *object, const char *key, const char *value, struct settings_error *error)
{
	static const struct {
		const char *option, *parameter;
	} numbers[] = {
		{"queues", "queues"},
		{"mtu", "mtu"},
		{"wait-us", "wait_us"},
		{"notify-us", "notify_us"},
		{"notify-packets", "notify_packets"},
		{"mac-limit", "mac_limit"},
	};

	if (strcmp(key, "mode") == 0 || strcmp(key, "bridge") == 0) {
		json_object_set_new(object, key, json_string(value));
		return 0;
	}
	if (driver_settings_option(object, key, value))
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		if (strcmp(key, numbers[i].option) == 0)
			return set_number(object, numbers[i].parameter, value, error);
	}
	if (feature_bits(key) != 0 && strcmp(value, "off") == 0) {
		json_t *more = features_to_json(feature_bits(key));

		json_array_extend(json_object_get(object, "features_off"), more);
		json_decref(more);
		return 0;
	}
	if (feature_bits(key) != 0)
		return settings_fail(error, key, "a feature can only be switched off: write '%.40s=off'", key);
	return settings_fail(error, key,
			     "there is no option '%.40s'; there are: mode bridge queues mtu wait-us "
			     "notify-us notify-packets mac-limit driver device netns driver-option and features "
			     "(csum, tso, uso, mrg, ...) '=off'",
			     key);
}

static int set_path(json_t *object, const char *path, struct settings_error *error)
{
	char dir[PATH_MAX];

	if (path[0] == '\0')
		return settings_fail(error, "path", "the socket's path is missing");
	if (path[0] == '/') {
		json_object_set_new(object, "path", json_string(path));
		return 0;
	}
	if (getcwd(dir, sizeof(dir)) == NULL)
		return settings_fail(error, "path", "the current directory: %s", strerror(errno));
	json_object_set_new(object, "path", json_sprintf("%s/%s", dir, path));
	return 0;
}

/* The next word of a list with commas, which is written to; "\\," is a comma in a word. NULL: there is none. */
static char *next_word(char **rest)
{
	char *word = *rest, *to = word;
	const char *from = word;

	if (word == NULL)
		return NULL;
	for (; *from != '\0' && *from != ','; from++) {
		if (from[0] == '\\' && from[1] == ',')
			from++;
		*to++ = *from;
	}
	*rest = *from == ',' ? (char *)(uintptr_t)from + 1 : NULL;
	*to = '\0';
	return word;
}

typedef int set_option(json_t *object, const char *key, const char *value, struct settings_error *error);

/* One "key=value", which is written to. */
static int split_option(json_t *object, json_t *seen, char *word, set_option *set, struct settings_error *error)
{
	char *equals = strchr(word, '=');

	if (equals == NULL)
		return settings_fail(error, word, "'%.40s': an option is 'key=value'", word);
	*equals = '\0';
	if (json_object_get(seen, word) != NULL && strcmp(word, DRIVER_OPTION_KEY) != 0)
		return settings_fail(error, word, "'%.40s' is given twice", word);
	json_object_set_new(seen, word, json_true());
	return set(object, word, equals + 1, error);
}

/* Takes "key=value,..."; `rest` is written to, and may be NULL. */
static int split_options(json_t *object, char *rest, set_option *set, struct settings_error *error)
{
	json_t *seen = json_object();
	char *word;
	int result = 0;

	while (result == 0 && (word = next_word(&rest)) != NULL) {
		if (word[0] != '\0')
			result = split_option(object, seen, word, set, error);
	}
	json_decref(seen);
	return result;
}

static int port_to_json(json_t *object, char *text, struct settings_error *error)
{
	char *options = text;
	char *word = next_word(&options);
	char *equals = strchr(word, '=');

	if (equals != NULL)
		*equals = '\0';
	json_object_set_new(object, "name", json_string(word));
	json_object_set_new(object, "features_off", json_array());
	if (equals != NULL && set_path(object, equals + 1, error) < 0)
		return -EINVAL;
	if (split_options(object, options, set_port_option, error) < 0)
		return -EINVAL;
	if (equals == NULL && json_object_get(object, "driver") == NULL)
		return settings_fail(error, "port",
				     "'%.60s': a port is NAME=PATH[,option=value...], or NAME,driver=KIND,...", word);
	return 0;
}

int port_settings_parse(struct port_settings *port, const char *text, struct settings_error *error)
{
	char *copy = strdup(text);
	json_t *object = json_object();
	int result = -EINVAL;

	if (copy == NULL || object == NULL)
		settings_fail(error, "port", "no memory");
	else if (port_to_json(object, copy, error) == 0)
		result = port_settings_from_json(port, object, error);
	json_decref(object);
	free(copy);
	return result;
}

int port_settings_complete(struct port_settings *port, const char *dir, struct settings_error *error)
{
	struct dp_port_add *wire = &port->wire;
	int length;

	if (wire->path[0] != '\0')
		return 0;
	length = snprintf(wire->path, sizeof(wire->path), "%s/" PORT_SOCKETS_DIR "/%s.sock", dir, wire->name);
	if (length < (int)sizeof(wire->path))
		return 0;
	wire->path[0] = '\0';
	return settings_fail(error, "path",
			     "'%s/" PORT_SOCKETS_DIR "/%s.sock' is too long for a socket's path: name another one", dir,
			     wire->name);
}

static int set_bridge_option(json_t *object, const char *key, const char *value, struct settings_error *error)
{
	if (strcmp(key, "mac-age") == 0)
		return set_number(object, "mac_age", value, error);
	return settings_fail(error, key, "there is no option '%.40s'; there is: mac-age", key);
}

static int bridge_to_json(json_t *object, char *text, struct settings_error *error)
{
	char *options = text;

	json_object_set_new(object, "name", json_string(next_word(&options)));
	return split_options(object, options, set_bridge_option, error);
}

int bridge_settings_parse(struct bridge_settings *bridge, const char *text, struct settings_error *error)
{
	char *copy = strdup(text);
	json_t *object = json_object();
	int result = -EINVAL;

	if (copy == NULL || object == NULL)
		settings_fail(error, "bridge", "no memory");
	else if (bridge_to_json(object, copy, error) == 0)
		result = bridge_settings_from_json(bridge, object, error);
	json_decref(object);
	free(copy);
	return result;
}
