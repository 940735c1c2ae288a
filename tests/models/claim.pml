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
 *	- A worker that sleeps and keeps a queue, as its packets wait for something else, is woken by whoever gets a
 *	  kick for it (KEEP, WAKE_HOLDER).
 *	- When the queue starts again the main thread frees it (RESET): the holder may have dropped it from its list.
 *
 * A guest's kick is seen by any worker, once; those that are free anywhere steal at any time. Workers' stores to `hold`
 * and to the wish wait in a store buffer (WEAK: a wish may overtake a release before it, as on Arm). A full barrier and a
 * compare-and-exchange empty it. The guest's own barrier is kick.pml's matter and taken for granted here.
 *
 * model: -DEVENT_IDX=0 -DPACKETS=3
 * model: -DEVENT_IDX=1 -DPACKETS=4
 * model: -DEVENT_IDX=0 -DWORKERS=3 -DPACKETS=1
 * model: -DEVENT_IDX=0 -DKEEP=1
 * model: -DEVENT_IDX=1 -DKEEP=1
 * model: -DEVENT_IDX=0 -DRESTARTS=1
 * model: -DEVENT_IDX=1 -DRESTARTS=1
 * model: -DEVENT_IDX=1 -DPACKETS=4 -DWISH_LAST=1 -DWEAK=0
 * refuted: -DEVENT_IDX=1 -DPACKETS=4 -DWISH_LAST=1
 * refuted: -DEVENT_IDX=1 -DPACKETS=4 -DWISH_LAST=1 -DWEAK=0 -DLOOK_OWN=1
 * refuted: -DEVENT_IDX=0 -DCLAIM_BUSY=0
 * refuted: -DEVENT_IDX=0 -DBARRIERS=0
 * refuted: -DEVENT_IDX=1 -DBARRIERS=0
 * refuted: -DEVENT_IDX=0 -DLOOK_FIRST=1
 * refuted: -DEVENT_IDX=1 -DLOOK_FIRST=1
 * refuted: -DEVENT_IDX=0 -DSECOND_LOOK=0
 * refuted: -DEVENT_IDX=1 -DSECOND_LOOK=0
 * refuted: -DEVENT_IDX=0 -DKEEP=1 -DWAKE_HOLDER=0
 * refuted: -DEVENT_IDX=0 -DRESTARTS=1 -DRESET=0
 * refuted: -DEVENT_IDX=0 -DRESTARTS=1 -DGRACE=0
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
#ifndef SECOND_LOOK
#define SECOND_LOOK 1
#endif
#ifndef LOOK_OWN
#define LOOK_OWN 0
#endif
#ifndef KEEP
#define KEEP 0
#endif
#ifndef WAKE_HOLDER
#define WAKE_HOLDER 1
#endif
#ifndef RESTARTS
#define RESTARTS 0
#endif
#ifndef RESET
#define RESET 1
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
bool woken[WORKERS];
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

/* An event says that the queue may have something. */
inline claim(w) {
	if
	:: CLAIM_BUSY ->
		change(w, FREE, BUSY(w), ok);
		if
		:: ok ->
			listed[w] = true;
			kicks_off(w);
			store_hold(w, HELD(w))
		:: else -> skip
		fi
	:: else ->
		atomic { change(w, FREE, HELD(w), ok); if :: ok -> listed[w] = true :: else -> skip fi }
		if
		:: ok -> kicks_off(w)
		:: else -> skip
		fi
	fi
}

inline handle(w) {
	if
	:: live ->
		claim(w);
		atomic {
			/* What the failed exchange found. */
			if
			:: !ok && WAKE_HOLDER && KEEP && IS_HELD -> woken[hold - 1] = true
			:: else -> skip
			fi
		}
	:: else -> skip
	fi
}

inline turn(w) {
	if
	:: !live -> listed[w] = false
	:: else ->
		change(w, HELD(w), BUSY(w), ok);
		if
		:: ok ->
			in_turn++;
			assert(in_turn == 1 && !changing);
			kicks_off(w);
			mine = avail;
			taken = mine;
			assert(in_turn == 1 && !changing);
			in_turn--;
			store_hold(w, HELD(w))
		:: else -> listed[w] = false
		fi
	fi
}

/* asleep: whether the worker goes to sleep with the queue, as packets wait for something else. */
inline let_go(w) {
	if
	:: !live -> listed[w] = false
	:: else ->
		change(w, HELD(w), BUSY(w), ok);
		if
		:: !ok -> listed[w] = false
		:: ok ->
			assert(!changing);
			mine = taken;
			if
			:: avail != mine -> store_hold(w, HELD(w))
			:: else ->
				if
				:: KEEP ->
					kicks_on(w, mine);
					store_hold(w, HELD(w));
					barrier(w);
					asleep = (avail == mine)
				:: true ->
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
					:: LOOK_FIRST || !SECOND_LOOK -> skip
					:: LOOK_OWN -> barrier(w); again = (avail != taken)
					:: else -> barrier(w); again = (avail != mine)
					fi;
					if
					:: again -> claim(w)
					:: else -> skip
					fi;
					again = false
				fi
			fi
		fi
	fi;
	mine = 0
}

proctype worker(byte w) {
	bool ok = false, again = false, asleep = false;
	byte mine = 0;

	do
	::
		online[w] = true;
		if
		:: atomic { kicked -> kicked = false }; handle(w)
		:: atomic { attention[w] -> attention[w] = false; woken[w] = false }; handle(w)
		:: listed[w] -> turn(w)
		:: listed[w] -> let_go(w)
		:: !listed[w] && IS_HELD && live ->
			/* From whoever has it. */
			atomic {
				DRAINED(w) ->
				if
				:: IS_HELD -> hold = HELD(w); listed[w] = true
				:: else -> skip
				fi
			}
		:: !listed[w] -> asleep = true
		fi;
		atomic { ok = false; mine = 0; online[w] = false }
		if
		:: asleep ->
end:			atomic { (kicked || attention[w] || woken[w]) -> woken[w] = false; asleep = false }
		:: else -> skip
		fi
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
		if
		:: RESET -> hold = FREE
		:: else -> skip
		fi;
		changing = false;
		live = true;
		attention[0] = true
	:: else -> break
	od
}
#endif

active proctype on_its_list() {
end:	atomic {
		live && IS_HELD && !listed[hold - 1] -> assert(false)
	}
}

init {
	byte w;

	atomic {
		for (w : 0 .. WORKERS - 1) {
			run worker(w)
		}
	}
	timeout -> assert(taken == PACKETS)
}
