/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Parts are taken by compare and exchange of `claims`, which never has the same value twice while somebody may remember
 * it: so whoever succeeds has taken a part of the life of the job that it has looked at, and that cannot end before
 * this part is ready. What it reads of the job before that may be of different lives, and is forgotten then.
 */
#include "datapath/copy_job.h"

#include "datapath/copy.h"
#include "datapath/forward.h"

#define CLAIMS_BITS 16
#define CLAIMS_MASK ((1U << CLAIMS_BITS) - 1)

static uint32_t next_of(uint64_t claims)
{
	return (uint32_t)claims & CLAIMS_MASK;
}

static uint32_t count_of(uint64_t claims)
{
	return (uint32_t)claims >> CLAIMS_BITS;
}

static bool claim(struct copy_job *job, uint64_t claims)
{
	return __atomic_compare_exchange_n(&job->claims, &claims, claims + 1, false, __ATOMIC_ACQ_REL,
					   __ATOMIC_RELAXED);
}

struct copy_job *copy_job_begin(struct forwarder *fwd, struct txq *txq)
{
	struct copy_job *job = NULL;
	unsigned int place = 0;

	while (place < TXQ_COPIES && (txq->copies[place].count > 0 || load_acquire(&txq->copies[place].under_way) ||
				      fwd->batch.copying[place]))
		place++;
	for (unsigned int i = 0; i < COPY_JOBS && !job; i++) {
		if (!load_acquire(&fwd->helpers->jobs[i].in_use))
			job = &fwd->helpers->jobs[i];
	}
	if (place == TXQ_COPIES || !job)
		return NULL;
	store_relaxed(&job->from_port, txq->port);
	store_relaxed(&job->from_queue, txq->queue);
	job->place = (uint16_t)place;
	job->part_count = 0;
	job->span_count = 0;
	job->part_bytes = 0;
	return job;
}

uint32_t copy_job_add(struct copy_job *job, uint8_t *to, const uint8_t *from, uint32_t size)
{
	uint32_t added = 0;

	while (added < size) {
		uint32_t bytes;

		if (unlikely(job->span_count == COPY_SPANS_MAX))
			break;
		if (job->part_count == 0 || job->part_bytes == COPY_PART) {
			if (unlikely(job->part_count == COPY_PARTS_MAX))
				break;
			job->part_count++;
			job->part_bytes = 0;
		}
		bytes = min(size - added, COPY_PART - job->part_bytes);
		job->spans[job->span_count++] = (struct copy_span){to + added, from + added, bytes};
		job->part_end[job->part_count - 1] = (uint16_t)job->span_count;
		job->part_bytes += bytes;
		added += bytes;
	}
	return added;
}

/* Counts as well: it is this thread that copies. */
static void copy_spans(struct forwarder *fwd, const struct copy_job *job, unsigned int part)
{
	const unsigned int first = part ? job->part_end[part - 1] : 0;
	uint64_t bytes = 0;

	for (unsigned int i = first; i < job->part_end[part]; i++) {
		copy_bytes(job->spans[i].to, job->spans[i].from, job->spans[i].size);
		bytes += job->spans[i].size;
	}
	stats_add(&fwd->worker_stats->copied_bytes, bytes);
}

/* True: it was the last one, of whoever took it. All others' copies are seen to be made then. */
static bool is_last(struct copy_job *job)
{
	return __atomic_sub_fetch(&job->left, 1, __ATOMIC_ACQ_REL) == 0;
}

bool copy_job_share(struct forwarder *fwd, struct copy_job *job, const struct port *to, unsigned int queue,
		    uint32_t ticket)
{
	uint64_t claims = (load_relaxed(&job->claims) >> 32) + 1;
	bool last = job->part_count == 0;

	if (unlikely(last))
		return true;
	store_relaxed(&job->to_port, to->index);
	store_relaxed(&job->to_queue, queue);
	job->ticket = ticket;
	store_relaxed(&job->left, job->part_count);
	store_relaxed(&job->in_use, true);
	store_relaxed(&fwd->txq->copies[job->place].under_way, true);
	store_release(&job->claims, claims << 32 | job->part_count << CLAIMS_BITS);
	fwd->helpers->offer(fwd->helpers, job);
	for (;;) {
		claims = load_acquire(&job->claims);
		if (next_of(claims) == count_of(claims))
			break;
		if (!claim(job, claims))
			continue;
		copy_spans(fwd, job, next_of(claims));
		last = is_last(job);
	}
	fwd->helpers->withdraw(fwd->helpers, job);
	if (last) {
		store_release(&fwd->txq->copies[job->place].under_way, false);
		store_release(&job->in_use, false);
	}
	return last;
}

bool copy_job_take(struct forwarder *fwd, struct copy_job *job, struct copy_part *part)
{
	/* Each time round somebody else has taken a part. */
	for (;;) {
		uint64_t claims = load_acquire(&job->claims);
		const uint32_t from_queue = load_relaxed(&job->from_queue), to_queue = load_relaxed(&job->to_queue);

		if (next_of(claims) == count_of(claims))
			return false;
		part->job = job;
		part->index = next_of(claims);
		part->from = datapath_port(fwd->dp, load_relaxed(&job->from_port));
		part->to = datapath_port(fwd->dp, load_relaxed(&job->to_port));
		if (!part->from || !part->to || !load_acquire(&part->from->txq[from_queue].live) ||
		    !load_acquire(&part->to->rxq[to_queue].live))
			return false;
		if (claim(job, claims))
			return true;
	}
}

/*
 * The buffers are the sender's again only when the receiver has what was in them: or a packet would be lost with this
 * process in between.
 */
static void end(struct forwarder *fwd, const struct copy_part *part)
{
	struct copy_job *job = part->job;
	const unsigned int to_queue = load_relaxed(&job->to_queue);
	bool *under_way = &part->from->txq[load_relaxed(&job->from_queue)].copies[job->place].under_way;

	notice_add(fwd, part->to, to_queue, false, rxq_publish_ticket(&part->to->rxq[to_queue], job->ticket));
	store_release(&job->in_use, false);
	store_release(under_way, false);
}

bool copy_job_make(struct forwarder *fwd, const struct copy_part *part)
{
	bool last;

	copy_spans(fwd, part->job, part->index);
	last = is_last(part->job);
	if (last)
		end(fwd, part);
	if (unlikely(guest_memory_faulted(part->from->memory)))
		forward_quarantine(fwd, part->from, PORT_FAULT_MEMORY_SHRUNK);
	if (unlikely(guest_memory_faulted(part->to->memory)))
		forward_quarantine(fwd, part->to, PORT_FAULT_MEMORY_SHRUNK);
	return last;
}
