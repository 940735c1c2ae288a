/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A virtio-net driver's life: connect, negotiate, share the memory, start the rings, stop them, and
 * all that again with another back end. The order of messages is QEMU's.
 *
 * Once started, the rings outlive the connection. They keep what the back end has not used, and the
 * next one is given it, unless the caller wants to begin afresh.
 */
#include "vhost/netfront.h"

#include <errno.h>

#include "lib/compiler.h"
#include "vhost/netfront_internal.h"

#define STATUS_READY   (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER)
#define STATUS_CHOSEN  (STATUS_READY | VIRTIO_CONFIG_S_FEATURES_OK)
#define STATUS_RUNNING (STATUS_CHOSEN | VIRTIO_CONFIG_S_DRIVER_OK)

#define PROTOCOL_FEATURES                                                                    \
	(1ULL << VHOST_USER_PROTOCOL_F_MQ | 1ULL << VHOST_USER_PROTOCOL_F_RARP |             \
	 1ULL << VHOST_USER_PROTOCOL_F_REPLY_ACK | 1ULL << VHOST_USER_PROTOCOL_F_MTU |       \
	 1ULL << VHOST_USER_PROTOCOL_F_CONFIG | 1ULL << VHOST_USER_PROTOCOL_F_RESET_DEVICE | \
	 1ULL << VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS | 1ULL << VHOST_USER_PROTOCOL_F_STATUS)

int netfront_open(struct netfront **out, const struct netfront_config *config, const char **step)
{
	int err;

	if (step)
		*step = "configuration";
	err = netfront_create(out, config);
	if (err)
		return err;
	err = netfront_attach(*out);
	if (step)
		*step = (*out)->step;
	if (err) {
		netfront_close(*out);
		*out = NULL;
	}
	return err;
}

int netfront_connect(struct netfront *nf)
{
	nf->step = "connection";
	if (!nf->config.listen)
		return vhost_frontend_connect(&nf->fe, nf->config.path);
	if (nf->listen_fd < 0) {
		int fd = vhost_frontend_listen(nf->config.path);

		if (fd < 0)
			return fd;
		nf->listen_fd = fd;
	}
	return vhost_frontend_accept(&nf->fe, nf->listen_fd);
}

/* Rings of the negotiated kind, empty. */
static int init_queue(struct netfront *nf, struct netfront_queue *queue)
{
	bool indirect = nf->features & VIRTIO_BIT(VIRTIO_RING_F_INDIRECT_DESC);
	struct vring_any ring = {.split = queue->ring};
	int err;

	if (nf->features & VIRTIO_BIT(VIRTIO_F_RING_PACKED)) {
		ring.is_packed = true;
		ring.packed = (struct vring_packed){
			.desc = (struct vring_packed_desc *)(void *)queue->ring.desc,
			.driver = (struct vring_packed_desc_event *)(void *)queue->ring.avail,
			.device = (struct vring_packed_desc_event *)(void *)queue->ring.used,
			.size = queue->ring.size,
		};
	}
	vq_driver_fini(&queue->vq);
	err = vq_driver_init(&queue->vq, &ring, indirect ? &queue->indirect : NULL,
			     nf->features & VIRTIO_BIT(VIRTIO_RING_F_EVENT_IDX));
	queue->base = vq_driver_base_first(&queue->vq);
	return err;
}

static int negotiate_protocol(struct netfront *nf, unsigned int *pairs)
{
	uint64_t offered;
	int err;

	*pairs = 1;
	if (!(nf->offered & VIRTIO_BIT(VHOST_USER_F_PROTOCOL_FEATURES)))
		return 0;
	err = vhost_frontend_get_protocol_features(&nf->fe, &offered);
	if (!err)
		err = vhost_frontend_set_protocol_features(&nf->fe, offered & PROTOCOL_FEATURES);
	if (!err && vhost_frontend_has(&nf->fe, VHOST_USER_PROTOCOL_F_MQ))
		err = vhost_frontend_get_queue_num(&nf->fe, pairs);
	return err;
}

static int set_status(struct netfront *nf, uint8_t status)
{
	if (!vhost_frontend_has(&nf->fe, VHOST_USER_PROTOCOL_F_STATUS))
		return 0;
	return vhost_frontend_set_status(&nf->fe, status);
}

static int check_status(struct netfront *nf)
{
	uint8_t status = STATUS_CHOSEN;
	int err = 0;

	if (vhost_frontend_has(&nf->fe, VHOST_USER_PROTOCOL_F_STATUS))
		err = vhost_frontend_get_status(&nf->fe, &status);
	if (!err && !(status & VIRTIO_CONFIG_S_FEATURES_OK))
		err = -ENOTSUP;
	return err;
}

static void place_control(struct netfront *nf, unsigned int pairs)
{
	nf->control = NULL;
	nf->commanding &= nf->resume;
	if (!(nf->features & VIRTIO_BIT(VIRTIO_NET_F_CTRL_VQ)))
		return;
	nf->control = &nf->queues[2 * nf->config.pairs];
	nf->control->index = nf->features & VIRTIO_BIT(VIRTIO_NET_F_MQ) ? 2 * pairs : 2;
}

int netfront_negotiate(struct netfront *nf)
{
	uint64_t features, before = nf->features;
	unsigned int pairs;
	int err;

	nf->step = "features";
	err = vhost_frontend_get_features(&nf->fe, &nf->offered);
	if (!err)
		err = negotiate_protocol(nf, &pairs);
	if (!err)
		err = vhost_frontend_set_owner(&nf->fe);
	if (!err)
		err = set_status(nf, STATUS_READY);
	if (err)
		return err;

	features = nf->config.features & nf->offered;
	if (nf->config.required & ~features || (nf->resume && features != before))
		return -ENOTSUP;
	nf->features = features;
	nf->hdr_len = virtio_net_hdr_len(features);
	nf->pairs = min(nf->config.pairs, pairs);
	if (nf->pairs == 0)
		return -EPROTO;
	place_control(nf, pairs);

	features |= nf->offered & VIRTIO_BIT(VHOST_USER_F_PROTOCOL_FEATURES);
	err = vhost_frontend_set_features(&nf->fe, features);
	if (!err)
		err = set_status(nf, STATUS_CHOSEN);
	if (!err)
		err = check_status(nf);
	for (unsigned int i = 0; !err && !nf->resume && i <= 2 * nf->config.pairs; i++)
		err = init_queue(nf, &nf->queues[i]);
	return err;
}

int netfront_share_memory(struct netfront *nf)
{
	int fds[VHOST_USER_TABLE_REGIONS], err = 0;
	unsigned int slots = 0;

	nf->step = "memory";
	if (nf->region_count <= VHOST_USER_TABLE_REGIONS && !nf->config.mem_slots) {
		for (unsigned int i = 0; i < nf->region_count; i++)
			fds[i] = nf->memfd;
		return vhost_frontend_set_mem_table(&nf->fe, nf->regions, fds, nf->region_count);
	}

	if (vhost_frontend_has(&nf->fe, VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS))
		err = vhost_frontend_get_max_mem_slots(&nf->fe, &slots);
	if (!err && nf->region_count > slots)
		err = -ENOTSUP;
	for (unsigned int i = 0; !err && i < nf->region_count; i++)
		err = vhost_frontend_add_mem_region(&nf->fe, &nf->regions[i], nf->memfd);
	return err;
}

int netfront_start_queue(struct netfront *nf, struct netfront_queue *queue)
{
	const struct vring_split *ring = &queue->ring;
	struct vhost_user_vring_addr addr = {
		.index = queue->index,
		.desc = (uint64_t)(uintptr_t)ring->desc,
		.avail = (uint64_t)(uintptr_t)ring->avail,
		.used = (uint64_t)(uintptr_t)ring->used,
	};
	struct vhost_frontend *fe = &nf->fe;
	int err;

	err = vhost_frontend_set_vring_num(fe, queue->index, ring->size);
	if (!err)
		err = vhost_frontend_set_vring_base(fe, queue->index, queue->base);
	if (!err)
		err = vhost_frontend_set_vring_addr(fe, &addr);
	if (!err)
		err = vhost_frontend_set_vring_fd(fe, VHOST_USER_SET_VRING_ERR, queue->index, queue->err_fd);
	if (!err)
		err = vhost_frontend_set_vring_fd(fe, VHOST_USER_SET_VRING_CALL, queue->index, queue->call_fd);
	if (!err)
		err = vhost_frontend_set_vring_fd(fe, VHOST_USER_SET_VRING_KICK, queue->index, queue->kick_fd);
	if (!err && nf->offered & VIRTIO_BIT(VHOST_USER_F_PROTOCOL_FEATURES))
		err = vhost_frontend_set_vring_enable(fe, queue->index, true);
	if (!err) {
		queue->started = true;
		/* Whatever was published before the device was there. */
		netfront_kick(queue);
	}
	return err;
}

static struct netfront_queue *queue_in_use(struct netfront *nf, unsigned int i)
{
	if (i < 2 * nf->pairs)
		return &nf->queues[i];
	return i == 2 * nf->pairs ? nf->control : NULL;
}

int netfront_start(struct netfront *nf)
{
	struct netfront_queue *queue;
	int err = 0;

	nf->step = "buffers";
	for (unsigned int i = 0; !err && !nf->resume && i < nf->pairs; i++)
		err = netfront_fill(nf, netfront_rx(nf, i));
	if (err)
		return err;
	nf->step = "rings";
	nf->resume = true;
	for (unsigned int i = 0; !err && (queue = queue_in_use(nf, i)); i++)
		if (!queue->started)
			err = netfront_start_queue(nf, queue);
	return err ? err : set_status(nf, STATUS_RUNNING);
}

int netfront_stop_queue(struct netfront *nf, struct netfront_queue *queue)
{
	uint32_t base;
	int err = 0;

	if (nf->offered & VIRTIO_BIT(VHOST_USER_F_PROTOCOL_FEATURES))
		err = vhost_frontend_set_vring_enable(&nf->fe, queue->index, false);
	if (!err)
		err = vhost_frontend_get_vring_base(&nf->fe, queue->index, &base);
	if (err)
		return err;
	queue->started = false;
	if (!vq_driver_base_possible(&queue->vq, base)) {
		queue->faulty = true;
		return -EPROTO;
	}
	queue->base = base;
	return 0;
}

int netfront_stop(struct netfront *nf)
{
	struct netfront_queue *queue;
	int err = 0;

	nf->step = "stop";
	for (unsigned int i = 0; !err && (queue = queue_in_use(nf, i)); i++)
		if (queue->started)
			err = netfront_stop_queue(nf, queue);
	return err;
}

int netfront_attach(struct netfront *nf)
{
	int err = netfront_connect(nf);

	if (!err)
		err = netfront_negotiate(nf);
	if (!err)
		err = netfront_share_memory(nf);
	if (!err)
		err = netfront_start(nf);
	return err;
}

/* Takes what the last back end used, and offers the rest again. */
static int resume_queue(struct netfront *nf, struct netfront_queue *queue)
{
	int err = netfront_drain(nf, queue);

	return err ? err : vq_driver_resume(&queue->vq, &queue->base);
}

int netfront_reconnect(struct netfront *nf, bool fresh)
{
	struct netfront_queue *queue;
	int err = 0;

	/* A back end that is alive might use the rings until it sees that we have hung up. */
	if (!vhost_frontend_check(&nf->fe))
		netfront_stop(nf);
	nf->step = "reconnect";
	vhost_frontend_close(&nf->fe);
	for (unsigned int i = 0; i <= 2 * nf->config.pairs; i++)
		nf->queues[i].started = false;
	if (fresh) {
		nf->resume = false;
		for (unsigned int i = 0; i <= 2 * nf->config.pairs; i++)
			netfront_clear_queue(nf, &nf->queues[i]);
	}
	for (unsigned int i = 0; !err && nf->resume && (queue = queue_in_use(nf, i)); i++)
		err = resume_queue(nf, queue);
	return err ? err : netfront_attach(nf);
}
