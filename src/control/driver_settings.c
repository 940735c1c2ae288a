/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is checked here is what can be said without looking: whether a device is there is for the driver to find out,
 * every time that it starts. Values become arguments of a program, never of a shell.
 */
#include "control/driver_settings.h"

#include "control/settings.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define DRIVER_NAMES "tap, af_xdp, af_packet, dpdk or external"

const char *port_driver_name(enum port_driver kind)
{
	static const char *const names[] = {NULL,
#define X(suffix, name) name,
					    PORT_DRIVERS(X)
#undef X
	};

	return (size_t)kind < ARRAY_SIZE(names) ? names[kind] : NULL;
}

static int get_kind(const json_t *object, enum port_driver *kind, struct settings_error *error)
{
	const char *text = json_string_value(json_object_get(object, "kind"));

	for (int i = PORT_DRIVER_NONE + 1; i < PORT_DRIVER_COUNT && text != NULL; i++) {
		if (strcmp(port_driver_name((enum port_driver)i), text) == 0) {
			*kind = (enum port_driver)i;
			return 0;
		}
	}
	if (text == NULL)
		return settings_fail(error, "driver", "a driver's kind is missing: one of " DRIVER_NAMES);
	return settings_fail(error, "driver", "'%.40s': a driver is one of " DRIVER_NAMES, text);
}

static bool is_printable(const char *text)
{
	for (; *text != '\0'; text++) {
		if (*text < 0x20 || *text > 0x7e)
			return false;
	}
	return true;
}

/* A string that may be left out; "" then. `size` is that of `text`. */
static int get_text(const json_t *object, const char *parameter, char *text, size_t size, struct settings_error *error)
{
	const json_t *value = json_object_get(object, parameter);
	const char *string = value == NULL || json_is_null(value) ? "" : json_string_value(value);

	if (string == NULL)
		return settings_fail(error, parameter, "a string is needed here");
	if (strlen(string) >= size)
		return settings_fail(error, parameter, "'%.40s...' is longer than %zu bytes", string, size - 1);
	if (!is_printable(string))
		return settings_fail(error, parameter, "only printable ASCII is possible here");
	snprintf(text, size, "%s", string);
	return 0;
}

/* What the kernel lets an interface be called. */
static bool is_interface_name(const char *name)
{
	return name[0] != '\0' && strlen(name) < DRIVER_INTERFACE_SIZE && strcmp(name, ".") != 0 &&
	       strcmp(name, "..") != 0 && strpbrk(name, "/: %") == NULL;
}

static int check_device(const struct driver_settings *driver, struct settings_error *error)
{
	if (driver->kind == PORT_DRIVER_EXTERNAL)
		return 0;
	if (driver->device[0] == '\0')
		return settings_fail(error, "device", "a driver of kind %s needs a device: write 'device=...'",
				     port_driver_name(driver->kind));
	if (driver->kind != PORT_DRIVER_DPDK && !is_interface_name(driver->device))
		return settings_fail(error, "device",
				     "'%.40s': an interface's name has 1 to %d characters, none of "
				     "them '/', ':', '%%' or a space",
				     driver->device, DRIVER_INTERFACE_SIZE - 1);
	return 0;
}

static int check_netns(const struct driver_settings *driver, struct settings_error *error)
{
	const char *netns = driver->netns;

	if (netns[0] == '\0')
		return 0;
	if (driver->kind == PORT_DRIVER_EXTERNAL)
		return settings_fail(error, "netns", "who starts an external driver says where its device is");
	if (netns[0] != '/' && (strchr(netns, '/') != NULL || strcmp(netns, ".") == 0 || strcmp(netns, "..") == 0))
		return settings_fail(error, "netns",
				     "'%.40s': a namespace is a name as of `ip netns`, or an absolute "
				     "path",
				     netns);
	return 0;
}

static bool is_option(const char *text)
{
	const char *equals = strchr(text, '=');

	if (equals == NULL || !isalnum((unsigned char)text[0]))
		return false;
	for (; text < equals; text++) {
		if (!isalnum((unsigned char)*text) && strchr("_-", *text) == NULL)
			return false;
	}
	return true;
}

static int get_options(const json_t *object, struct driver_settings *driver, struct settings_error *error)
{
	const json_t *options = json_object_get(object, "options");

	if (options == NULL || json_is_null(options))
		return 0;
	if (!json_is_array(options) || json_array_size(options) > DRIVER_OPTIONS_MAX)
		return settings_fail(error, "driver_option", "a list of at most %d options is needed here",
				     DRIVER_OPTIONS_MAX);
	for (size_t i = 0; i < json_array_size(options); i++) {
		const char *option = json_string_value(json_array_get(options, i));

		if (option == NULL || !is_option(option) || !is_printable(option) ||
		    strlen(option) >= DRIVER_OPTION_SIZE)
			return settings_fail(error, "driver_option",
					     "'%.40s': a driver's option is 'key=value', of at most %d bytes",
					     option == NULL ? "" : option, DRIVER_OPTION_SIZE - 1);
		snprintf(driver->options[driver->option_count++], DRIVER_OPTION_SIZE, "%s", option);
	}
	if (driver->kind == PORT_DRIVER_EXTERNAL && driver->option_count > 0)
		return settings_fail(error, "driver_option", "who starts an external driver gives it its options");
	return 0;
}

int driver_settings_from_json(struct driver_settings *driver, const json_t *object, struct settings_error *error)
{
	static const char *const known[] = {"kind", "device", "netns", "options", NULL};

	memset(driver, 0, sizeof(*driver));
	if (object == NULL || json_is_null(object))
		return 0;
	if (settings_check_members(object, known, error) < 0 || get_kind(object, &driver->kind, error) < 0 ||
	    get_text(object, "device", driver->device, sizeof(driver->device), error) < 0 ||
	    get_text(object, "netns", driver->netns, sizeof(driver->netns), error) < 0 ||
	    check_device(driver, error) < 0 || check_netns(driver, error) < 0 || get_options(object, driver, error) < 0)
		return -EINVAL;
	return 0;
}

json_t *driver_settings_to_json(const struct driver_settings *driver)
{
	json_t *options;

	if (driver->kind == PORT_DRIVER_NONE)
		return NULL;
	options = json_array();
	for (unsigned int i = 0; i < driver->option_count; i++)
		json_array_append_new(options, json_string(driver->options[i]));
	return json_pack("{s:s, s:s, s:s, s:o}", "kind", port_driver_name(driver->kind), "device", driver->device,
			 "netns", driver->netns, "options", options);
}

static json_t *driver_of(json_t *port)
{
	json_t *driver = json_object_get(port, "driver");

	if (driver == NULL) {
		driver = json_pack("{s:[]}", "options");
		json_object_set_new(port, "driver", driver);
	}
	return driver;
}

bool driver_settings_option(json_t *port, const char *key, const char *value)
{
	if (strcmp(key, "driver") == 0) {
		json_object_set_new(driver_of(port), "kind", json_string(value));
	} else if (strcmp(key, "device") == 0 || strcmp(key, "netns") == 0) {
		json_object_set_new(driver_of(port), key, json_string(value));
	} else if (strcmp(key, DRIVER_OPTION_KEY) == 0) {
		while (value != NULL) {
			size_t length = strcspn(value, ";");

			json_array_append_new(json_object_get(driver_of(port), "options"), json_stringn(value, length));
			value = value[length] == '\0' ? NULL : value + length + 1;
		}
	} else {
		return false;
	}
	return true;
}

bool driver_settings_same_device(const struct driver_settings *a, const struct driver_settings *b)
{
	return a->kind == b->kind && strcmp(a->device, b->device) == 0 && strcmp(a->netns, b->netns) == 0;
}

bool driver_settings_equal(const struct driver_settings *a, const struct driver_settings *b)
{
	if (!driver_settings_same_device(a, b) || a->option_count != b->option_count)
		return false;
	for (unsigned int i = 0; i < a->option_count; i++) {
		if (strcmp(a->options[i], b->options[i]) != 0)
			return false;
	}
	return true;
}
