/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lasthop-driver: one device, one port, one process.
 */
#include <stdio.h>
#include <stdlib.h>

#include "driver/device.h"

int main(void)
{
	for (unsigned int i = 0; driver_kinds[i]; i++)
		fprintf(stderr, "%s: %s\n", driver_kinds[i]->name, driver_kinds[i]->summary);
	return DRIVER_EXIT_USAGE;
}
