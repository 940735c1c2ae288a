/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Merged notices of one receive queue (datapath/notice.c, vq_driver_split_enable_callbacks()): workers publish used
 * entries, note what they published, and decide later, each for its own notice, whether to call the guest. Claim: the
 * driver never sleeps for good while something is published.
 *
 * What makes it hold, each with a variant without it, which must fail:
 *
 *	- A full barrier between publishing and looking at the wish, and one in the driver between its wish and its
 *	  second look (BARRIERS, DRIVER_BARRIER); that second look (LOOK).
 *	- No worker sleeps with a notice that it has not given (GIVE_ALL).
 *	- A notice covers all that its worker published since the last one (WHOLE), by the index's own count: another
 *	  worker may have published so much in between that the index has gone round. So only what follows the
 *	  notice closely is added to it (CLOSE); it is not enough that the two ends look close.
 *
 * Indexes count modulo ROUND here, as they do modulo 65536 there; a ring has half as many entries at most. Workers
 * publish one after another (publish.pml). Stores of the used index and of the driver's wish wait in a store buffer for
 * as long as no full barrier empties it.
 *
 * model: -DEVENT_IDX=0
 * model: -DEVENT_IDX=1
 * model: -DEVENT_IDX=1 -DWORKERS=3 -DTOTAL=3
 * model: -DEVENT_IDX=1 -DROUND=6 -DTOTAL=7
 * refuted: -DEVENT_IDX=1 -DROUND=6 -DTOTAL=7 -DCLOSE=0
 * refuted: -DEVENT_IDX=0 -DBARRIERS=0
 * refuted: -DEVENT_IDX=1 -DBARRIERS=0
 * refuted: -DEVENT_IDX=0 -DDRIVER_BARRIER=0
 * refuted: -DEVENT_IDX=1 -DDRIVER_BARRIER=0
 * refuted: -DEVENT_IDX=0 -DLOOK=0
 * refuted: -DEVENT_IDX=1 -DLOOK=0
 * refuted: -DEVENT_IDX=0 -DGIVE_ALL=0
 * refuted: -DEVENT_IDX=1 -DGIVE_ALL=0
 * refuted: -DEVENT_IDX=1 -DWHOLE=0
 * compile: -DSAFETY -DCOLLAPSE -DMEMLIM=2048
 */
#ifndef EVENT_IDX
#define EVENT_IDX 1
#endif
#ifndef WORKERS
#define WORKERS 2
#endif
#ifndef TOTAL
#define TOTAL 4
#endif
#ifndef ROUND
#define ROUND 8
#endif
#ifndef BARRIERS
#define BARRIERS 1
#endif
#ifndef DRIVER_BARRIER
#define DRIVER_BARRIER 1
#endif
#ifndef LOOK
#define LOOK 1
#endif
#ifndef GIVE_ALL
#define GIVE_ALL 1
#endif
#ifndef WHOLE
#define WHOLE 1
#endif
#ifndef CLOSE
#define CLOSE 1
#endif

#define RING        (ROUND / 2)
#define RANGE_MAX   (ROUND / 2)
#define NO_CALLS    255
#define SINCE(a, b) (((a) + ROUND - (b)) % ROUND) /* from b to a */

/* shared memory */
byte used = 0;
byte wish = NO_CALLS; /* used_event, or (EVENT_IDX == 0) 0: call me */
bool called = false;  /* the call descriptor */
/* the device's own */
byte published = 0; /* of TOTAL */
/* the driver's own */
byte taken = 0; /* of TOTAL; the device sees as many new buffers */
/* the store buffers */
bool used_pending = false; byte used_value, used_owner;
bool wish_pending = false; byte wish_value;

active proctype memory() {
end:	do
	:: atomic { used_pending -> used = used_value; used_value = 0; used_owner = 0; used_pending = false }
	:: atomic { wish_pending -> wish = wish_value; wish_value = 0; wish_pending = false }
	od
}

inline barrier(w) {
	if
	:: BARRIERS -> !used_pending || used_owner != w
	:: else -> skip
	fi
}

inline give(w) {
	barrier(w);
	event = wish;
	if
	:: (!EVENT_IDX && event == 0) || (EVENT_IDX && event != NO_CALLS && SINCE(event, from) < SINCE(to, from)) ->
		called = true
	:: else -> skip
	fi;
	atomic { noted = false; event = 0; from = 0; to = 0 }
}

/* notice_add(): what is [start, start + count) */
inline note(w) {
	if
	:: noted && CLOSE && SINCE(to, from) + SINCE(start, to) + count >= RANGE_MAX -> give(w)
	:: noted && !CLOSE && SINCE(start + count, from) >= RANGE_MAX -> give(w)
	:: else -> skip
	fi;
	atomic {
		if
		:: noted && WHOLE -> skip
		:: else -> from = start
		fi;
		to = (start + count) % ROUND;
		noted = true;
		start = 0;
		count = 0
	}
}

proctype worker(byte w) {
	byte from = 0, to = 0, start = 0, count = 0, event = 0;
	bool noted = false;

	do
	:: published < TOTAL ->
		/* One or two, if there are buffers; the turn to publish comes when the last one's store is seen. */
		atomic {
			!used_pending ->
			if
			:: published < TOTAL && published - taken < RING -> count = 1
			:: published + 1 < TOTAL && published + 1 - taken < RING -> count = 2
			:: published == TOTAL || published - taken == RING -> count = 0
			fi;
			if
			:: count > 0 ->
				start = published % ROUND;
				published = published + count;
				used_value = published % ROUND;
				used_owner = w;
				used_pending = true
			:: else -> skip
			fi
		}
		if
		:: count > 0 -> note(w)
		:: else ->
			/* Asleep until there are buffers. */
			if
			:: GIVE_ALL && noted -> give(w)
			:: else -> skip
			fi;
end_full:		published - taken < RING || published == TOTAL
		fi
	:: noted -> give(w)
	:: published == TOTAL -> break
	od;
	if
	:: GIVE_ALL && noted -> give(w)
	:: else -> skip
	fi
}

active proctype driver() {
	byte next = 0, seen;

	do
	::
		/* awake: what calls are wanted for is past */
		if
		:: !EVENT_IDX -> atomic { !wish_pending -> wish_value = NO_CALLS; wish_pending = true }
		:: else -> skip
		fi;
		seen = used;
		atomic { taken = taken + SINCE(seen, next); next = seen; seen = 0 }
		if
		:: taken == TOTAL -> break
		:: else -> skip
		fi;
		atomic {
			!wish_pending ->
			if
			:: EVENT_IDX -> wish_value = next
			:: else -> wish_value = 0
			fi;
			wish_pending = true
		}
		if
		:: DRIVER_BARRIER -> !wish_pending
		:: else -> skip
		fi;
		if
		:: LOOK && used != next -> skip
		:: else ->
end_asleep:		atomic { called -> called = false }
		fi
	od
}

init {
	byte w;

	atomic {
		for (w : 0 .. WORKERS - 1) {
			run worker(w)
		}
	}
	timeout -> assert(taken == TOTAL)
}
