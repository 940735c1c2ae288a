/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a driver domain says about itself and its device: its heartbeat. It is the data of a command of a class of our
 * own on the control virtqueue of the driver's port, sent about once a second and at each change, but only while every
 * thread of the driver answers. So its coming says that the driver lives, its way through the ring that the port does.
 *
 * The core takes it only at ports that were added for a driver, answers VIRTIO_NET_ERR elsewhere, and believes none of
 * it: driver_status_parse() is what it must pass before anybody is shown it. Numbers are little-endian, counters start
 * at 0 with the driver's process. Usable from any thread.
 */
#ifndef LASTHOP_PROTO_DRIVER_STATUS_H
#define LASTHOP_PROTO_DRIVER_STATUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DRIVER_CTRL_CLASS  0xd0
#define DRIVER_CTRL_STATUS 0

#define DRIVER_STATUS_VERSION 1

/*
 * Why a driver loses a frame: constant, name, what an operator should know. "From" and "to" are the device's sides: a
 * frame from the device is on its way to the switch. New ones go to the end, and make a new version.
 */
#define DRIVER_DROPS(X)                                                                                            \
	X(TOO_LONG, "too-long", "larger than the pool's buffers, or than the device takes (is an MTU too large?)") \
	X(NO_BUFFER, "no-buffer", "from the device while the switch had all of the pool's buffers")                \
	X(DEVICE_FULL, "device-full", "to a device that had no room for it")                                       \
	X(DEVICE_DOWN, "device-down", "to a device that is down or has no carrier")                                \
	X(BAD_FRAME, "bad-frame", "too short, or with a net header that the device refuses")                       \
	X(BAD_CHAIN, "bad-chain", "what the switch put into the ring is no frame")                                 \
	X(DEVICE_ERROR, "device-error", "the device failed for another reason")

enum driver_drop {
#define DRIVER_DROP_ENUM(constant, name, text) DRIVER_DROP_##constant,
	DRIVER_DROPS(DRIVER_DROP_ENUM)
#undef DRIVER_DROP_ENUM
		DRIVER_DROP_COUNT
};

/* "unknown" for what is no drop. */
static inline const char *driver_drop_name(unsigned int drop)
{
	static const char *const names[] = {
#define DRIVER_DROP_NAME(constant, name, text) [DRIVER_DROP_##constant] = name,
		DRIVER_DROPS(DRIVER_DROP_NAME)
#undef DRIVER_DROP_NAME
	};

	return drop < DRIVER_DROP_COUNT ? names[drop] : "unknown";
}

struct driver_status {
	uint8_t version;         /* DRIVER_STATUS_VERSION */
	uint8_t link;            /* 0 down, 1 up */
	uint16_t queues;         /* queue pairs in use */
	uint32_t mtu;            /* bytes of payload; 0: unknown */
	uint32_t speed_mbps;     /* 0: unknown */
	uint32_t reserved;       /* 0 */
	char kind[16];           /* "tap"; strings are printable ASCII, and zeros to their end */
	char device[16];         /* its name */
	char mode[32];           /* how it is driven: "native, zero copy" */
	uint64_t rx_packets;     /* from the device */
	uint64_t rx_bytes;       /* without net headers */
	uint64_t tx_packets;     /* to the device */
	uint64_t tx_bytes;
	uint64_t rx_coalesced;   /* frames that became part of a larger one on their way to the switch */
	uint64_t drops[DRIVER_DROP_COUNT];
};

_Static_assert(sizeof(struct driver_status) % 8 == 0, "no padding at the end");
_Static_assert(offsetof(struct driver_status, rx_packets) == 80, "no padding inside");

static inline bool driver_status_text_valid(const char *text, size_t size)
{
	size_t end = 0;

	while (end < size && text[end] >= ' ' && text[end] <= '~')
		end++;
	if (end == size)
		return false;
	for (size_t i = end; i < size; i++) {
		if (text[i] != '\0')
			return false;
	}
	return true;
}

/* Whether `data` of `size` bytes is a status, which is then copied to *status. data must be the reader's own copy. */
static inline bool driver_status_parse(struct driver_status *status, const void *data, size_t size)
{
	if (size != sizeof(*status))
		return false;
	__builtin_memcpy(status, data, sizeof(*status));
	return status->version == DRIVER_STATUS_VERSION && status->link <= 1 && status->reserved == 0 &&
	       driver_status_text_valid(status->kind, sizeof(status->kind)) &&
	       driver_status_text_valid(status->device, sizeof(status->device)) &&
	       driver_status_text_valid(status->mode, sizeof(status->mode));
}

#endif
