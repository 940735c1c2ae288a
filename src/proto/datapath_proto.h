/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The datapath protocol: how a control plane programs a data plane (rule 5). lasthop-core serves it on
 * DIR/datapath.sock, a SOCK_SEQPACKET Unix socket; one message is one packet: struct dp_header, then the
 * payload named below. Little-endian, host alignment, no padding that is not named. One controller at a time:
 * a new HELLO takes over and the older connection is closed.
 *
 * Every request is answered by one message with the same type and sequence and status 0 or a negative errno;
 * dumps are answered by any number of messages with status 0 and DP_MORE set, and a last one without it.
 * Events have sequence 0. The data plane never blocks on the controller: events that do not fit into the
 * socket are lost and counted, and a controller that suspects so re-reads the state.
 *
 * Strings are NUL-terminated in their arrays. Counters are absolute since the object's creation.
 */
#ifndef LASTHOP_PROTO_DATAPATH_PROTO_H
#define LASTHOP_PROTO_DATAPATH_PROTO_H

#include <stdint.h>

#include "datapath/flow.h"
#include "proto/driver_status.h"

#define DP_VERSION     3
#define DP_SOCKET_NAME "datapath.sock"
#define DP_MESSAGE_MAX 16384 /* bytes of one message, header included */
#define DP_PORTS_MAX   FLOW_PORTS_MAX
#define DP_NAME_SIZE   32   /* port and bridge names, NUL included: [A-Za-z0-9._-]+ */
#define DP_PATH_SIZE   108  /* a Unix socket's path, NUL included */
#define DP_UPCALLS_MAX 64   /* of one message */
#define DP_PACKET_MAX  1600 /* bytes of frame in PACKET_OUT */

enum dp_type {
	DP_HELLO = 1,    /* dp_hello -> dp_hello */
	DP_PORT_ADD,     /* dp_port_add (server mode: with the listening socket) -> dp_port_id */
	DP_PORT_DEL,     /* dp_port_id -> nothing; the port's flows stay until they are removed */
	DP_PORT_CONNECT, /* dp_port_id with a connected socket (client mode) -> nothing */
	DP_PORT_DUMP,    /* nothing -> dp_port_info each */
	DP_FLOW_ADD,     /* dp_flow_add -> dp_flow_id; replaces the actions of the same key and mask */
	DP_FLOW_DEL,     /* dp_flow_id -> nothing; -ENOENT */
	DP_FLOW_DUMP,    /* nothing -> dp_flow_info each */
	DP_PACKET_OUT,   /* dp_packet_out -> nothing; best effort */

	DP_EVENT_UPCALL = 64, /* dp_upcall, 1 to DP_UPCALLS_MAX of them: each a packet that waits for a flow */
	DP_EVENT_PORT,        /* dp_port_info: a port's state changed */
	DP_EVENT_ANNOUNCE,    /* dp_announce: a front end asks that its MAC be announced (SEND_RARP) */
};

#define DP_MORE 1u /* dp_header.flags: more messages of this dump follow */

struct dp_header {
	uint16_t type;
	uint16_t flags;
	uint32_t sequence;
	int32_t status;
	uint32_t zero;
};

struct dp_hello {
	uint32_t version; /* DP_VERSION; another one is answered with -EPROTO and the core's own */
	uint32_t ports_max;
	uint32_t flows_max;
	uint32_t workers;
	uint32_t pid; /* of the answering process */
	uint32_t zero;
	uint64_t instance; /* changes when the data plane starts anew */
};

/* Bounds of merged notifications. */
#define DP_NOTIFY_US_DEFAULT      10
#define DP_NOTIFY_US_MAX          10000
#define DP_NOTIFY_PACKETS_DEFAULT 128
#define DP_NOTIFY_PACKETS_MAX     4096

/* struct dp_port_add.flags */
#define DP_PORT_DRIVER  1u /* a driver domain is behind it: its reports (driver_status.h) are taken */
#define DP_PORT_AWAITED 2u /* a front end was there before this data plane was: packets wait for it a while */

enum dp_port_mode { DP_PORT_SERVER = 0, DP_PORT_CLIENT = 1 };

struct dp_port_add {
	char name[DP_NAME_SIZE];
	char owner[DP_NAME_SIZE]; /* opaque to the data plane: control keeps the bridge's name here */
	char path[DP_PATH_SIZE];  /* of the socket; opaque, for port show and for a restarted control */
	uint32_t mode;            /* enum dp_port_mode */
	uint32_t pairs;           /* queue pairs offered, 1 to 16 */
	uint32_t wait_us;         /* bound of back-pressure towards this port, microseconds; 0: the default */
	uint32_t notify_us;       /* a notification is held back so long at most, to be merged with others */
	uint16_t notify_packets;  /* and for so many packets; 0: the defaults of both */
	uint16_t mtu;             /* offered as VIRTIO_NET_F_MTU; 0: not offered */
	uint64_t features_off;    /* virtio feature bits not to offer */
	uint32_t flags;           /* DP_PORT_* */
	uint32_t zero;
};

struct dp_port_id {
	uint32_t port;
	uint32_t zero;
};

/* What the process at the other end of a port's socket does. */
enum dp_vm_state {
	DP_VM_UNKNOWN = 0, /* nobody is connected, or nobody knows */
	DP_VM_BLOCKED = 1,
	DP_VM_RUNNABLE = 2, /* it waits for a CPU */
	DP_VM_RUNNING = 3,
};

enum dp_port_state {
	DP_PORT_DOWN = 0,        /* nobody connected */
	DP_PORT_CONNECTED = 1,   /* a front end, but no running queue pair */
	DP_PORT_UP = 2,          /* at least one queue pair runs */
	DP_PORT_QUARANTINED = 3, /* the front end or its guest broke the rules: see fault; ends with the next
				    reset or connection */
};

struct dp_port_info {
	uint32_t port;
	uint32_t state; /* enum dp_port_state */
	struct dp_port_add config;
	char fault[DP_NAME_SIZE]; /* name of the last fault, "" if none ever */
	uint64_t faults;          /* how many there were */
	uint64_t connections;
	uint64_t features; /* negotiated virtio features */
	uint64_t protocol_features;
	uint32_t pairs_enabled;
	uint32_t regions;    /* of guest memory */
	uint64_t memory;     /* bytes shared */
	uint32_t ring_sizes; /* of the first pair: receive | transmit << 16 */
	uint16_t mtu;        /* as the front end said; 0: unknown */
	uint8_t mac[6];      /* as the guest set it through the control queue; 0: unknown */
	uint32_t peer_pid;   /* of the front end's process, 0: unknown */
	uint32_t vm_state;   /* enum dp_vm_state, of that process, at this moment */
	/* Of ports with DP_PORT_DRIVER. The last report of this connection, or of the one before until another comes.
	 */
	uint64_t driver_seen_ns; /* when it came, CLOCK_MONOTONIC; 0: never */
	struct driver_status driver;
};

struct dp_flow_add {
	uint64_t cookie;       /* the controller's own; returned in dumps */
	struct flow_key key;   /* with the flow's stage */
	struct flow_key mask;  /* its stage is not looked at, and 0xff in dumps */
	uint32_t action_count; /* 0 to FLOW_ACTIONS_MAX; 0 drops as flow-drop */
	uint32_t zero;
	struct flow_action actions[];
};

struct dp_flow_id {
	uint64_t id; /* never used again within an instance */
};

struct dp_flow_info {
	uint64_t id;
	uint64_t packets;
	uint64_t bytes; /* of frames, without net headers */
	struct dp_flow_add flow;
};

struct dp_upcall {
	struct flow_key key; /* in full depth, with the stage that had no flow */
	uint32_t length;     /* of the frame, bytes */
	uint32_t zero;
};

struct dp_packet_out {
	uint32_t in_port; /* counted there; DP_PORTS_MAX: none */
	uint32_t length;  /* bytes of frame, 14 to DP_PACKET_MAX */
	uint32_t port_count;
	uint32_t zero;
	/* uint32_t ports[port_count], then the frame */
	uint32_t ports[];
};

struct dp_announce {
	uint32_t port;
	uint8_t mac[6];
	uint16_t zero;
};

#endif
