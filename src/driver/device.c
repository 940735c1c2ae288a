/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The kinds that this build has, and what is the same for devices of all of them.
 */
#include "driver/device.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "driver/kinds.h"

#define DRIVER_DECLARE(kind) extern const struct driver_kind driver_##kind;
DRIVER_KINDS(DRIVER_DECLARE)

const struct driver_kind *const driver_kinds[] = {
#define DRIVER_ENTRY(kind) &driver_##kind,
	DRIVER_KINDS(DRIVER_ENTRY) NULL,
};

const struct driver_kind *driver_kind_find(const char *name)
{
	for (unsigned int i = 0; driver_kinds[i]; i++) {
		if (!strcmp(driver_kinds[i]->name, name))
			return driver_kinds[i];
	}
	return NULL;
}

const char *driver_option(const struct driver_config *config, const char *key, const char *fallback)
{
	for (unsigned int i = 0; i < config->option_count; i++) {
		if (!strcmp(config->options[i].key, key))
			return config->options[i].value;
	}
	return fallback;
}

int driver_device_init(struct driver_device *dev, const struct driver_kind *kind, const struct driver_config *config)
{
	*dev = (struct driver_device){.kind = kind, .config = config, .queue_count = config->queues};
	dev->queues = aligned_alloc(CACHE_LINE, config->queues * sizeof(*dev->queues));
	if (!dev->queues)
		return -ENOMEM;
	for (unsigned int i = 0; i < config->queues; i++)
		dev->queues[i] = (struct driver_queue){.dev = dev, .index = i, .fd = -1};
	return 0;
}

void driver_device_close(struct driver_device *dev)
{
	if (!dev->queues)
		return;
	dev->kind->close(dev);
	for (unsigned int i = 0; i < dev->config->queues; i++) {
		if (dev->queues[i].fd >= 0)
			close(dev->queues[i].fd);
	}
	free(dev->queues);
	dev->queues = NULL;
}
