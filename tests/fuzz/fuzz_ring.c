/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Guest memory as a hostile guest may leave it: rings (split or packed), descriptors, indirect tables, net headers and
 * frames are the input's. Every head is walked in every way a queue walks chains; the control queue is served; then
 * turns of the forwarding loop carry packets from one guest's transmit ring to another's receive ring, while pokes from
 * the input change both memories in between. The two begin as copies of each other; they are apart because no port
 * sends to itself. Regions are allocations of their exact size, so that the sanitizers see an access past them; the
 * time that an input takes is bounded by libFuzzer.
 *
 * Input: struct input, then `pokes` times struct poke, then memory from its beginning on, laid out as in the
 * constants below. make_ring_corpus.py writes such files.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "core/control_queue.h"
#include "datapath/forward.h"
#include "lib/rcu.h"

#define must_hold(condition)              \
	do {                              \
		if (!(condition))         \
			__builtin_trap(); \
	} while (0)

#define GUEST_BASE   0x1000ULL
#define REGION_0     0x2000u
#define REGION_1     0x1000u /* follows in the guest's address space, but not here */
#define SIZE_MAX_LOG 4       /* rings have up to 16 descriptors */
#define AT_TX_DESC   0x000
#define AT_TX_AVAIL  0x100
#define AT_RX_DESC   0x140
#define AT_RX_AVAIL  0x240
#define AT_TX_USED   0x1e00
#define AT_RX_USED   0x1f00
#define TURNS        24
#define IS_PACKED    0x80

struct input {
	uint8_t tx_size; /* log 2; with IS_PACKED set the number of descriptors itself, less 1 */
	uint8_t rx_size;
	uint8_t tx_features;
	uint8_t rx_features;
	uint8_t flow;  /* odd: two copies */
	uint8_t waits; /* odd: packets may wait for ever, else not at all */
	uint8_t pokes;
	uint8_t base; /* both rings start here */
};

struct poke {
	uint16_t offset;
	uint16_t value;
};

static const uint8_t tx_bits[8] = {
	VIRTIO_F_VERSION_1,     VIRTIO_RING_F_INDIRECT_DESC, VIRTIO_RING_F_EVENT_IDX, VIRTIO_NET_F_CSUM,
	VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6,      VIRTIO_NET_F_HOST_USO,   VIRTIO_NET_F_HOST_ECN,
};

static const uint8_t rx_bits[8] = {
	VIRTIO_F_VERSION_1,      VIRTIO_RING_F_INDIRECT_DESC, VIRTIO_RING_F_EVENT_IDX, VIRTIO_NET_F_MRG_RXBUF,
	VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4,     VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_GUEST_USO4,
};

static struct datapath dp;
static struct forwarder *fwd;
static struct stats_port stats[FLOW_PORTS_MAX];
static struct stats_worker worker_stats;
static uint64_t flow_ids[2];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void *at_least(void *pointer)
{
	if (!pointer)
		abort();
	return pointer;
}

static void set_up(void)
{
	static const struct flow_action actions[2] = {
		{.type = FLOW_ACTION_OUTPUT, .value = 1},
		{.type = FLOW_ACTION_OUTPUT, .value = 1},
	};
	struct flow_key key = {0}, mask = {.in_port = UINT32_MAX};

	dp.event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	dp.flows = at_least(flow_table_create(1, 16));
	fwd = at_least(forwarder_create(&dp, 0, stats, &worker_stats));
	dp.ports[0] = at_least(port_create(0, 0));
	dp.ports[1] = at_least(port_create(1, 0));
	dp.ports[2] = at_least(port_create(2, 0));
	rcu_register_thread();
	/* Port 0 has one receiver, port 2 sends two copies. */
	must_hold(flow_table_add(dp.flows, &key, &mask, actions, 1, 0, &flow_ids[0]) == 0);
	key.in_port = 2;
	must_hold(flow_table_add(dp.flows, &key, &mask, actions, 2, 0, &flow_ids[1]) == 0);
}

static uint64_t features_from(const uint8_t bits[8], uint8_t choice)
{
	uint64_t features = 0;

	for (unsigned int i = 0; i < 8; i++) {
		if (choice & 1u << i)
			features |= VIRTIO_BIT(bits[i]);
	}
	return features;
}

static struct vring_any ring_at(uint8_t *bytes, uint8_t size, unsigned int desc, unsigned int avail, unsigned int used)
{
	struct vring_any ring = {.is_packed = size & IS_PACKED};

	if (ring.is_packed) {
		ring.packed = (struct vring_packed){
			.desc = (void *)(bytes + desc),
			.driver = (void *)(bytes + avail),
			.device = (void *)(bytes + used),
			.size = (uint16_t)(1 + size % (1 << SIZE_MAX_LOG)),
		};
		return ring;
	}
	ring.split = (struct vring_split){
		.desc = (void *)(bytes + desc),
		.avail = (void *)(bytes + avail),
		.used = (void *)(bytes + used),
		.size = (uint16_t)(1u << size % (SIZE_MAX_LOG + 1)),
	};
	ring.split.mask = (uint16_t)(ring.split.size - 1);
	return ring;
}

/* Where a device starts at whose front end says `base`. */
static uint16_t start_at(const struct vring_any *ring, uint8_t base)
{
	uint16_t position;

	if (!ring->is_packed)
		return base;
	position = (uint16_t)(base % ring->packed.size | (base & 0x80) << 8);
	if (base & 0x40)
		position = chain_packed_recover(&ring->packed, position);
	must_hold(vring_packed_index(position) < ring->packed.size);
	return position;
}

static bool in_memory(const struct guest_memory *memory, const struct chain_piece *piece)
{
	for (unsigned int i = 0; i < memory->count; i++) {
		const struct guest_region *region = &memory->regions[i];

		if (piece->data >= region->host && piece->length <= region->size &&
		    piece->data + piece->length <= region->host + region->size)
			return true;
	}
	return false;
}

static void check_walk(const struct guest_memory *memory, const struct chain_walk *walk, enum chain_verdict verdict,
		       const struct chain_piece *pieces, unsigned int count, unsigned int room)
{
	must_hold(count <= room && walk->readable <= count);
	must_hold(verdict != CHAIN_OK || count > 0);
	for (unsigned int i = 0; i < count; i++)
		must_hold(pieces[i].length > 0 && in_memory(memory, &pieces[i]));
}

static void walk_packed(const struct guest_memory *memory, const struct vring_packed *ring, struct chain_walk *walk,
			struct chain_piece *pieces)
{
	for (unsigned int i = 0; i < 2u * ring->size; i++) {
		uint16_t position = vring_packed_advance(VRING_PACKED_START, i % ring->size, ring->size);
		struct vring_packed_desc desc = vring_packed_fetch(ring, vring_packed_index(position));
		unsigned int room = i % 3 == 2 ? 2 : CHAIN_PIECES_MAX, count = 0;
		struct chain_extent extent = {0};
		enum chain_verdict verdict = chain_packed_fetch(walk, ring, position, &desc, pieces, room, &count,
								&extent);

		check_walk(memory, walk, verdict, pieces, count, room);
		must_hold(verdict >= CHAIN_BROKEN || (extent.slots > 0 && extent.slots <= ring->size));
	}
}

static void walk_chains(const struct guest_memory *memory, const struct vring_any *ring)
{
	static struct chain_piece pieces[CHAIN_PIECES_MAX];

	for (unsigned int way = 0; way < 8; way++) {
		struct chain_walk walk = {
			.ring = &ring->split,
			.memory = memory,
			.indirect = way & 1,
			.writable = way & 2,
			.mixed = way & 4,
		};

		if (ring->is_packed) {
			walk_packed(memory, &ring->packed, &walk, pieces);
			continue;
		}
		for (uint16_t head = 0; head <= ring->split.size; head++) {
			unsigned int room = head % 3 == 2 ? 2 : CHAIN_PIECES_MAX;
			unsigned int count = 0;
			enum chain_verdict verdict = chain_fetch(&walk, head, pieces, room, &count);

			check_walk(memory, &walk, verdict, pieces, count, room);
		}
	}
}

static bool accept_pairs(struct control_queue *queue, uint16_t pairs)
{
	(void)queue;
	return pairs == 1;
}

static bool accept_offloads(struct control_queue *queue, uint64_t features)
{
	(void)queue;
	return !(features & 1);
}

static void accept_mac(struct control_queue *queue, const uint8_t mac[6])
{
	(void)queue;
	must_hold(!(mac[0] & 1));
}

static bool accept_status(struct control_queue *queue, const struct driver_status *status)
{
	(void)queue;
	must_hold(status->version == DRIVER_STATUS_VERSION && status->link <= 1);
	must_hold(strnlen(status->kind, sizeof(status->kind)) < sizeof(status->kind));
	must_hold(strnlen(status->device, sizeof(status->device)) < sizeof(status->device));
	must_hold(strnlen(status->mode, sizeof(status->mode)) < sizeof(status->mode));
	return true;
}

static void serve_control(const struct guest_memory *memory, const struct vring_any *ring, uint64_t features,
			  uint16_t base)
{
	static const struct control_queue_ops ops = {accept_pairs, accept_offloads, accept_mac, accept_status};
	static struct control_queue queue;
	bool call;

	queue.ops = &ops;
	control_queue_start(&queue, ring, memory, features, base);
	control_queue_serve(&queue, ring->is_packed ? ring->packed.size : ring->split.size, &call);
	if (ring->is_packed)
		must_hold(vring_packed_index(queue.last_avail) < ring->packed.size);
	else
		must_hold((uint16_t)(queue.last_avail - base) <= ring->split.size);
}

struct guest {
	struct guest_memory memory;
	uint8_t *bytes[2];
	struct vring_any tx, rx;
};

static void guest_init(struct guest *guest, const struct input *input, const uint8_t *data, size_t size)
{
	static const uint32_t sizes[2] = {REGION_0, REGION_1};

	guest_memory_reset(&guest->memory);
	for (unsigned int i = 0; i < 2; i++) {
		guest->bytes[i] = at_least(aligned_alloc(64, sizes[i]));
		memset(guest->bytes[i], i * 0x55, sizes[i]);
		guest->memory.regions[i] = (struct guest_region){
			.guest_addr = GUEST_BASE + i * (uint64_t)REGION_0,
			.size = sizes[i],
			.host = guest->bytes[i],
		};
	}
	guest->memory.count = 2;
	memcpy(guest->bytes[0], data, min(size, (size_t)REGION_0));
	guest->tx = ring_at(guest->bytes[0], input->tx_size, AT_TX_DESC, AT_TX_AVAIL, AT_TX_USED);
	guest->rx = ring_at(guest->bytes[0], input->rx_size, AT_RX_DESC, AT_RX_AVAIL, AT_RX_USED);
}

static void guest_fini(struct guest *guest)
{
	free(guest->bytes[0]);
	free(guest->bytes[1]);
}

static void guest_poke(struct guest *guest, const struct poke *poke)
{
	memcpy(guest->bytes[0] + poke->offset % (REGION_0 - 1), &poke->value, sizeof(poke->value));
}

static void start_queues(const struct input *input, struct txq *txq, const struct guest *sender, struct rxq *rxq,
			 const struct guest *receiver)
{
	uint64_t tx_features = features_from(tx_bits, input->tx_features);
	uint64_t rx_features = features_from(rx_bits, input->rx_features);
	uint16_t tx_base = start_at(&sender->tx, input->base), rx_base = start_at(&receiver->rx, input->base);
	int err = 0;

	if (sender->tx.is_packed)
		err |= txq_start_packed(txq, &sender->tx.packed, &sender->memory, tx_features, tx_base, -1);
	else
		err |= txq_start(txq, &sender->tx.split, &sender->memory, tx_features, tx_base, -1);
	if (receiver->rx.is_packed)
		err |= rxq_start_packed(rxq, &receiver->rx.packed, &receiver->memory, rx_features, rx_base, -1);
	else
		rxq_start(rxq, &receiver->rx.split, &receiver->memory, rx_features, rx_base, -1);
	must_hold(err == 0);
}

/* Descriptors or entries from one place to another. */
static unsigned int distance(const struct vring_any *ring, uint16_t from, uint16_t to)
{
	return ring->is_packed ? vring_packed_distance(from, to, ring->packed.size) : (uint16_t)(to - from);
}

static void forward(const struct input *input, const struct poke *pokes, struct guest *sender, struct guest *receiver)
{
	struct port *from = dp.ports[input->flow & 1 ? 2 : 0];
	struct port *to = dp.ports[1];
	struct txq *txq = &from->txq[0];
	uint64_t in = stats[from->index].in_packets;
	unsigned int size = sender->tx.is_packed ? sender->tx.packed.size : sender->tx.split.size;

	from->memory = &sender->memory;
	to->memory = &receiver->memory;
	from->fault = to->fault = 0;
	to->wait_ns = input->waits & 1 ? UINT32_MAX : 0;
	start_queues(input, txq, sender, &to->rxq[0], receiver);
	store_release(&to->pairs_running, 1);
	for (unsigned int turn = 0; turn < TURNS; turn++) {
		uint16_t used = txq->used;

		forward_turn(fwd, txq);
		notice_give_all(fwd);
		forward_arm(fwd, txq);
		must_hold(txq->waiting_count <= TXQ_BATCH);
		must_hold(distance(&sender->tx, used, txq->used) <= size);
		must_hold(distance(&sender->tx, txq->used, txq->last_avail) <= size);
		if (turn < input->pokes) {
			guest_poke(sender, &pokes[turn]);
			guest_poke(receiver, &pokes[turn]);
		}
	}
	must_hold(stats[from->index].in_packets - in <= TURNS * TXQ_BATCH);
	txq_stop(txq);
	rxq_stop(&to->rxq[0]);
	rcu_quiescent_state();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct guest sender, receiver;
	struct poke pokes[TURNS];
	struct input input;

	if (!fwd)
		set_up();
	if (size < sizeof(input))
		return 0;
	memcpy(&input, data, sizeof(input));
	data += sizeof(input);
	size -= sizeof(input);
	input.pokes = (uint8_t)min((size_t)(input.pokes % TURNS), size / sizeof(pokes[0]));
	memcpy(pokes, data, input.pokes * sizeof(pokes[0]));
	data += input.pokes * sizeof(pokes[0]);
	size -= input.pokes * sizeof(pokes[0]);

	guest_init(&sender, &input, data, size);
	guest_init(&receiver, &input, data, size);
	walk_chains(&sender.memory, &sender.tx);
	walk_chains(&sender.memory, &sender.rx);
	forward(&input, pokes, &sender, &receiver);
	/* Last, because it writes into the memory. */
	serve_control(&sender.memory, &sender.tx, features_from(tx_bits, input.tx_features),
		      start_at(&sender.tx, input.base));
	guest_fini(&sender);
	guest_fini(&receiver);
	return 0;
}
