/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who serves a transmit queue (engine/claim.h, engine/worker.c): workers take it by its word `hold`, hand it over, let
 * go of it, while its guest sends and the main thread stops and starts it. Claims:
 *
 *	- never two workers in one queue, and none while the main thread changes it;
 *	- who holds it has it on its list of active queues;
 *	- when all is quiet no packet is left in the ring: there is no lost wake-up.
 *
 * What makes them hold, each with a variant without it, which must fail:
 *
 *	- Whoever writes the wish (kicks off, kicks on) is busy in the queue (CLAIM_BUSY). A worker that only holds it may
 *	  lose it to another, which serves it, lets go and sleeps; then the first one's "kicks off" would last.
 *	- Letting go is, while still busy: wish, hold = 0, full barrier, second look. Without the barrier, or with the
 *	  second look before hold = 0 (LOOK_FIRST), the kick may find a holder that has looked already. The wish
 *	  may come behind hold = 0 (WISH_LAST) only where stores keep their order: otherwise it competes with the next
 *	  holder's. And then the second look must be for what lies behind the wish that was written, not for what
 *	  lies behind the queue's last position (LOOK_OWN).
 *	- A worker that sleeps and keeps the queue (KEEP: its packets wait for something else) says so before it looks for
 *	  the last time, and from then on the kick's handler takes the queue from it (TAKE_KEPT). It looks after it has
 *	  stopped being busy, since nobody can take it before (LOOK_FIRST).
 *	- A queue that stands still is freed (FREE_STILL), and then looked at again: the main thread may have started it
 *	  meanwhile, and whoever it told may have left the queue to its holder (LOOK_LIVE).
 *	- So is one that was given to a worker, and stands still when that one is told (LIST_STILL): it has nobody else.
 *	  That also catches what was not freed, so that only both together are missed.
 *
 * A guest's kick is seen by any worker, once; any other worker takes the queue over between two turns (as those to whom
 * it was offered), or is given it (HAND_OVER), at any time. Workers' stores to `hold` and to the wish wait in a store
 * buffer (WEAK: a wish may overtake a release before it, as on Arm). A full barrier and a compare-and-exchange empty
 * it. The guest's own barrier is kick.pml's matter and taken for granted here.
 *
 * model: -DEVENT_IDX=0 -DPACKETS=3
 * model: -DEVENT_IDX=1 -DPACKETS=4
 * model: -DEVENT_IDX=0 -DWORKERS=3 -DPACKETS=1
 * model: -DEVENT_IDX=0 -DKEEP=1
 * model: -DEVENT_IDX=1 -DKEEP=1
 * model: -DEVENT_IDX=0 -DKEEP=1 -DHAND_OVER=1
 * model: -DEVENT_IDX=0 -DRESTARTS=1
 * model: -DEVENT_IDX=1 -DRESTARTS=1 -DKEEP=1 -DPACKETS=1
 * model: -DEVENT_IDX=1 -DRESTARTS=1 -DHAND_OVER=1 -DPACKETS=1
 * model: -DEVENT_IDX=1 -DPACKETS=4 -DWISH_LAST=1 -DWEAK=0
 * refuted: -DEVENT_IDX=1 -DPACKETS=4 -DWISH_LAST=1
 * refuted: -DEVENT_IDX=1 -DPACKETS=4 -DWISH_LAST=1 -DWEAK=0 -DLOOK_OWN=1
 * refuted: -DEVENT_IDX=0 -DCLAIM_BUSY=0
 * refuted: -DEVENT_IDX=0 -DBARRIERS=0
 * refuted: -DEVENT_IDX=1 -DBARRIERS=0
 * refuted: -DEVENT_IDX=0 -DLOOK_FIRST=1
 * refuted: -DEVENT_IDX=1 -DLOOK_FIRST=1
 * refuted: -DEVENT_IDX=0 -DKEEP=1 -DTAKE_KEPT=0
 * refuted: -DEVENT_IDX=0 -DKEEP=2 -DLOOK_FIRST=1
 * refuted: -DEVENT_IDX=0 -DRESTARTS=1 -DFREE_STILL=0 -DLIST_STILL=0
 * refuted: -DEVENT_IDX=0 -DRESTARTS=1 -DLOOK_LIVE=0
 * refuted: -DEVENT_IDX=0 -DRESTARTS=1 -DGRACE=0
 * refuted: -DEVENT_IDX=1 -DRESTARTS=1 -DHAND_OVER=1 -DPACKETS=1 -DLIST_STILL=0
 * compile: -DSAFETY -DCOLLAPSE -DMEMLIM=2048
 */
#ifndef EVENT_IDX
#define EVENT_IDX 1
#endif
#ifndef WORKERS
#define WORKERS 2
#endif
#ifndef PACKETS
#define PACKETS 2
#endif
#ifndef CLAIM_BUSY
#define CLAIM_BUSY 1
#endif
#ifndef BARRIERS
#define BARRIERS 1
#endif
#ifndef WEAK
#define WEAK 1
#endif
#ifndef WISH_LAST
#define WISH_LAST 0
#endif
#ifndef LOOK_FIRST
#define LOOK_FIRST 0
#endif
#ifndef LOOK_OWN
#define LOOK_OWN 0
#endif
#ifndef KEEP
#define KEEP 0
#endif
#ifndef TAKE_KEPT
#define TAKE_KEPT 1
#endif
#ifndef HAND_OVER
#define HAND_OVER 0
#endif
#ifndef RESTARTS
#define RESTARTS 0
#endif
#ifndef FREE_STILL
#define FREE_STILL 1
#endif
#ifndef LOOK_LIVE
#define LOOK_LIVE 1
#endif
#ifndef LIST_STILL
#define LIST_STILL 1
#endif
#ifndef GRACE
#define GRACE 1
#endif

#define FREE     0
#define HELD(w)  (1 + (w))
#define BUSY(w)  (1 + WORKERS + (w))
#define IS_HELD  (hold != FREE && hold <= WORKERS)
#define NO_EVENT 255

/* shared memory */
byte hold = FREE;
byte avail = 0; /* available index: the guest's */
byte wish = 0;  /* event index, or (EVENT_IDX == 0) 0: kick me, NO_EVENT: do not */
byte taken = 0; /* last_avail: of whoever is busy */
bool live = true;
bool kicked = false; /* the kick descriptor, as the workers' epolls see it */
bool attention[WORKERS];
bool sleeping[WORKERS];
/* the workers' own */
bool listed[WORKERS];
bool online[WORKERS]; /* between two quiescent states */
/* their store buffers: one store to each place */
bool hold_pending[WORKERS];
byte hold_value[WORKERS];
bool wish_pending[WORKERS];
byte wish_value[WORKERS];
bool wish_behind[WORKERS]; /* the wish was written after hold */
/* for the claims */
byte in_turn = 0;
bool changing = false;

#define DRAINED(w) (!hold_pending[w] && !wish_pending[w])

inline store_hold(w, value) {
	atomic { !hold_pending[w] -> hold_value[w] = value; hold_pending[w] = true; wish_behind[w] = false }
}

inline store_wish(w, value) {
	atomic { !wish_pending[w] -> wish_value[w] = value; wish_pending[w] = true; wish_behind[w] = hold_pending[w] }
}

inline barrier(w) {
	if
	:: BARRIERS -> DRAINED(w)
	:: !BARRIERS -> skip
	fi
}

inline change(w, from, to, done) {
	atomic { DRAINED(w) -> done = (hold == from); if :: done -> hold = to :: else -> skip fi }
}

inline kicks_off(w) {
	if
	:: !EVENT_IDX -> store_wish(w, NO_EVENT)
	:: else -> skip
	fi
}

inline kicks_on(w, position) {
	if
	:: EVENT_IDX -> store_wish(w, position)
	:: !EVENT_IDX -> store_wish(w, 0)
	fi
}

/* Memory takes what is buffered whenever it likes; a release comes behind what was stored before it. */
active proctype memory() {
	byte w;

end:	do
	:: atomic { hold_pending[0] && (!wish_pending[0] || wish_behind[0]) -> w = 0; goto take_hold }
	:: atomic { hold_pending[1] && (!wish_pending[1] || wish_behind[1]) -> w = 1; goto take_hold }
	:: atomic { wish_pending[0] && (WEAK || !hold_pending[0] || !wish_behind[0]) -> w = 0; goto take_wish }
	:: atomic { wish_pending[1] && (WEAK || !hold_pending[1] || !wish_behind[1]) -> w = 1; goto take_wish }
#if WORKERS > 2
	:: atomic { hold_pending[2] && (!wish_pending[2] || wish_behind[2]) -> w = 2; goto take_hold }
	:: atomic { wish_pending[2] && (WEAK || !hold_pending[2] || !wish_behind[2]) -> w = 2; goto take_wish }
#endif
	od;
take_hold:
	atomic { hold = hold_value[w]; hold_value[w] = 0; hold_pending[w] = false; wish_behind[w] = false; w = 0; goto end }
take_wish:
	atomic { wish = wish_value[w]; wish_value[w] = 0; wish_pending[w] = false; wish_behind[w] = false; w = 0; goto end }
}

active proctype guest() {
	byte index = 0, event;

end:	do
	:: index < PACKETS ->
		index++;
		avail = index;
		event = wish;
		if
		:: (EVENT_IDX && event == index - 1) || (!EVENT_IDX && event == 0) -> kicked = true
		:: else -> skip
		fi;
		event = 0
	od
}

/* From nobody, or from `from`, which is its holder. */
inline take(w, from) {
	if
	:: CLAIM_BUSY ->
		change(w, from, BUSY(w), ok);
		if
		:: ok ->
			listed[w] = true;
			kicks_off(w);
			store_hold(w, HELD(w))
		:: else -> skip
		fi
	:: else ->
		atomic { change(w, from, HELD(w), ok); if :: ok -> listed[w] = true :: else -> skip fi }
		if
		:: ok -> kicks_off(w)
		:: else -> skip
		fi
	fi
}

/* activate(): an event says that the queue may have something. */
inline activate(w) {
	if
	:: live ->
		seen = hold;
		if
		:: seen == FREE -> take(w, FREE)
		:: seen != FREE && seen <= WORKERS && (seen == HELD(w) || (TAKE_KEPT && sleeping[seen - 1])) -> take(w, seen)
		:: else -> skip
		fi
	:: !live && LIST_STILL ->
		seen = hold;
		if
		:: seen == HELD(w) -> listed[w] = true
		:: else -> skip
		fi
	:: else -> skip
	fi
}

/* let_go_of_still(): the worker is busy in a queue that is not live. */
inline let_go_of_still(w) {
	if
	:: FREE_STILL -> store_hold(w, FREE)
	:: else -> store_hold(w, HELD(w))
	fi;
	DRAINED(w);
	listed[w] = false;
	if
	:: LOOK_LIVE -> activate(w)
	:: else -> skip
	fi
}

inline turn(w) {
	change(w, HELD(w), BUSY(w), ok);
	if
	:: !ok -> listed[w] = false
	:: ok && !live -> let_go_of_still(w)
	:: else ->
		in_turn++;
		assert(in_turn == 1 && !changing);
		mine = avail;
		taken = mine;
		assert(in_turn == 1 && !changing);
		in_turn--;
		store_hold(w, HELD(w))
	fi
}

/* Asleep with the queue, if nothing is there. */
inline keep(w) {
	kicks_on(w, mine);
	if
	:: LOOK_FIRST -> barrier(w); asleep = (avail == mine); store_hold(w, HELD(w))
	:: else -> store_hold(w, HELD(w)); barrier(w); asleep = (avail == mine)
	fi
}

inline free(w) {
	listed[w] = false;
	if
	:: !WISH_LAST -> kicks_on(w, mine)
	:: else -> skip
	fi;
	if
	:: LOOK_FIRST -> barrier(w); again = (avail != mine)
	:: else -> skip
	fi;
	store_hold(w, FREE);
	if
	:: WISH_LAST -> kicks_on(w, mine)
	:: else -> skip
	fi;
	if
	:: LOOK_FIRST -> skip
	:: LOOK_OWN -> barrier(w); again = (avail != taken)
	:: else -> barrier(w); again = (avail != mine)
	fi;
	if
	:: again -> activate(w)
	:: else -> skip
	fi;
	again = false
}

/* part(): the worker means to sleep. */
inline part(w) {
	sleeping[w] = true;
	change(w, HELD(w), BUSY(w), ok);
	if
	:: !ok -> listed[w] = false
	:: ok && !live -> let_go_of_still(w)
	:: else ->
		assert(!changing);
		mine = taken;
		if
		:: avail != mine -> store_hold(w, HELD(w))
		:: avail == mine && KEEP -> keep(w)
		:: avail == mine && KEEP < 2 -> free(w)
		fi
	fi
}

inline hand_over(w) {
	change(w, HELD(w), HELD(1 - w), ok);
	if
	:: ok -> listed[w] = false; attention[1 - w] = true
	:: else -> skip
	fi
}

proctype worker(byte w) {
	bool ok = false, again = false, asleep = false;
	byte mine = 0, seen = 0;

	do
	::
		online[w] = true;
		if
		:: atomic { kicked -> kicked = false }; activate(w)
		:: atomic { attention[w] -> attention[w] = false }; activate(w)
		:: listed[w] -> turn(w)
		:: listed[w] -> part(w)
		:: atomic { !listed[w] && IS_HELD && live -> seen = hold };
			/* It was offered. */
			take(w, seen)
		:: HAND_OVER && listed[w] -> hand_over(w)
		:: !listed[w] -> sleeping[w] = true; asleep = true
		fi;
		atomic { ok = false; mine = 0; seen = 0; online[w] = false }
		if
		:: asleep ->
end:			atomic { (kicked || attention[w]) -> asleep = false }
		:: else -> skip
		fi;
		sleeping[w] = false
	od
}

#if RESTARTS > 0
active proctype main_thread() {
	byte restarts = 0, w = 0;

	do
	:: restarts < RESTARTS ->
		restarts++;
		live = false;
		for (w : 0 .. WORKERS - 1) {
			if
			/* A grace period orders memory as well. */
			:: GRACE -> !online[w] && DRAINED(w)
			:: else -> skip
			fi
		}
		changing = true;
		changing = false;
		live = true;
		attention[0] = true
	:: else -> break
	od
}
#endif

#if !HAND_OVER && RESTARTS == 0
active proctype on_its_list() {
end:	atomic {
		IS_HELD && !listed[hold - 1] -> assert(false)
	}
}
#endif

init {
	byte w;

	atomic {
		for (w : 0 .. WORKERS - 1) {
			run worker(w)
		}
	}
	timeout -> assert(taken == PACKETS && (hold == FREE || listed[hold - 1]))
}
