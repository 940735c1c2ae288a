/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Why a packet was dropped. One list feeds the counters, the statistics segment, the API, the CLI and the
 * manual (rule 8): add a reason here, with the text the manual shows, and it appears everywhere.
 *
 * Reasons are counted at the port that the packet came from, but for those of the second group, which are
 * counted at the port it was going to.
 */
#ifndef LASTHOP_DATAPATH_DROP_H
#define LASTHOP_DATAPATH_DROP_H

/* X(constant suffix, name, explanation) */
#define DROP_REASONS(X)                                                                                               \
	/* what the sender's ring or packet is at fault for */                                                        \
	X(DESC_UNMAPPED, "desc-unmapped", "a descriptor's buffer lies outside guest memory or across regions")        \
	X(DESC_DIRECTION, "desc-direction", "a buffer was device-writable where it must be readable, or reverse")     \
	X(DESC_LENGTH, "desc-length", "a buffer of length zero, or a chain shorter than the net header and a frame")  \
	X(FRAME_TOO_LONG, "frame-too-long", "the frame is longer than a segmentation-offload packet may be")          \
	X(OFFLOAD_INVALID, "offload-invalid", "the net header asks for an impossible checksum or segmentation")       \
	X(OFFLOAD_UNNEGOTIATED, "offload-unnegotiated", "the net header uses an offload that was not negotiated")     \
	X(HEADERS_TOO_LONG, "headers-too-long", "the packet's headers do not fit into what segmentation can rewrite") \
	X(UPCALL_LIMIT, "upcall-limit",                                                                               \
	  "too many packets without a flow were sent up and not answered, or nobody takes them")                      \
	X(NO_FLOW, "no-flow", "no flow came within the time that a packet may wait for one")                          \
	/* what the control plane decided */                                                                          \
	X(FLOW_DROP, "flow-drop", "a flow without an output")                                                         \
	X(MAC_LIMIT, "mac-limit", "the port has more source addresses than its limit")                                \
	X(NO_BRIDGE, "no-bridge", "the port is member of no bridge")                                                  \
	X(HAIRPIN, "hairpin", "the destination is behind the port that the packet came from")                         \
	/* what the receiver is at fault for; counted at the receiving port */                                        \
	X(OUT_DOWN, "out-down", "the receiving port is not connected or its queue is not running")                    \
	X(OUT_FULL, "out-full", "the receiver gave no buffers within the time that a packet may wait")                \
	X(OUT_TOO_LONG, "out-too-long", "the frame is longer than the receiver's buffers")                            \
	X(OUT_OFFLOAD, "out-offload", "the receiver cannot take the packet's offload and it cannot be undone")        \
	X(OUT_BUFFER, "out-buffer", "the receiver's buffer was unmapped, read-only or too short")

enum drop_reason {
#define X(suffix, name, text) DROP_##suffix,
	DROP_REASONS(X)
#undef X
		DROP_COUNT
};

const char *drop_name(enum drop_reason reason); /* like "out-full"; "unknown" out of range */
const char *drop_text(enum drop_reason reason); /* the explanation, one sentence */

#endif
