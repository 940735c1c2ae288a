/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Publishing in order without waiting (datapath/rxq.c): senders take tickets, fill their buffers in any order, and
 * whoever completes tries to become the publisher; one who finds another publishing leaves. Claims: what is
 * published is always complete (no buffer is shown before it was filled), in the order of tickets, and once
 * all senders are done everything is published although nobody ever waited.
 *
 * Without the second look (AGAIN=0) a ticket may be forgotten.
 *
 * model: -DSENDERS=3
 * refuted: -DSENDERS=3 -DAGAIN=0
 */
#ifndef SENDERS
#define SENDERS 3
#endif
#ifndef AGAIN
#define AGAIN 1
#endif

byte ticket_next = 0;
byte ticket_oldest = 0;
bool done[4];
bool filled[4];
bool publish_lock = false;
byte published = 0; /* used index in the guest's memory, in tickets */
byte finished = 0;

proctype sender() {
	byte ticket, used, oldest;
	bool locked;

	/* rxq_reserve_begin to rxq_reserve_end, under the reserve lock */
	atomic { ticket = ticket_next; done[ticket] = false; ticket_next++ }
	filled[ticket] = true;
	done[ticket] = true;
	do
	::	atomic { locked = !publish_lock; publish_lock = true }
		if
		:: !locked -> break
		:: else -> skip
		fi;
		oldest = ticket_oldest;
		do
		:: oldest != ticket_next && done[oldest] -> assert(filled[oldest]); oldest++
		:: else -> break
		od;
		published = oldest;
		ticket_oldest = oldest;
		publish_lock = false;
		/* Somebody may have completed the oldest one meanwhile, found the lock taken, and gone. */
		if
		:: !AGAIN || oldest == ticket_next || !done[oldest] -> break
		:: else -> skip
		fi
	od;
	finished++
}

init {
	byte i;

	atomic {
		for (i : 1 .. SENDERS) {
			run sender()
		}
	}
	finished == SENDERS;
	assert(published == SENDERS)
}
