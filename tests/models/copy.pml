/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Copies that two workers share (datapath/copy_job.c, engine/copy.c): the worker of the turn, here the owner, cuts its
 * copy into parts and leaves the job in a slot; whoever takes it out of there helps. Both take parts until there are
 * none; who makes the last one publishes what was reserved and clears under_way; only then does the sender get its
 * buffers back. The main thread stops the queues, waits for a grace period and changes what is behind them. Claims:
 *
 *	- every part is copied once, by who has seen the job that it belongs to;
 *	- what is published is complete; it is published once, before the sender gets anything back (a kill in between
 *	  loses nothing);
 *	- nobody copies when a grace period is over;
 *	- when all is quiet everything was published and given back: nobody sleeps on what was ended meanwhile.
 *
 * What makes them hold, each with a variant without it, which must fail:
 *
 *	- A part is taken by comparing the job's life as well as the part (LIFE): a helper that was late would have the
 *	  ports of one life and the part of another.
 *	- Before it takes a part the helper sees the queues live (LOOK_LIVE): it may have been quiescent after the grace
 *	  period began and have got the job from an owner who was not. A grace period that waits for none (GRACE) fails as
 *	  well.
 *	- Who counts down `left` sees who was last, in one step (COUNT).
 *	- The packets are held back until under_way is cleared (HOLD), which is after publishing (PUBLISH_FIRST).
 *	- A job is not begun anew before it has ended (IN_USE).
 *	- A worker that sleeps with the queue says so before it looks at under_way for the last time (LAST_LOOK); who
 *	  ends the copy clears it before it looks whether somebody sleeps with the queue, and then takes the queue
 *	  (TAKE_KEPT); both with a barrier in between (BARRIERS).
 *
 * Here one job and one place are used again and again; tickets are publish.pml's matter, claims claim.pml's.
 *
 * model: -DJOBS=2
 * model: -DJOBS=3 -DPARTS=1
 * model: -DJOBS=1 -DPARTS=3 -DHELPERS=2
 * model: -DJOBS=2 -DSTOP=1
 * model: -DJOBS=1 -DHELPERS=2 -DSTOP=1
 * refuted: -DJOBS=2 -DLIFE=0
 * refuted: -DJOBS=1 -DSTOP=1 -DLOOK_LIVE=0
 * refuted: -DJOBS=1 -DSTOP=1 -DGRACE=0
 * refuted: -DJOBS=1 -DCOUNT=0
 * refuted: -DJOBS=1 -DHOLD=0
 * refuted: -DJOBS=1 -DPUBLISH_FIRST=0
 * refuted: -DJOBS=2 -DIN_USE=0
 * refuted: -DJOBS=1 -DLAST_LOOK=0
 * refuted: -DJOBS=1 -DTAKE_KEPT=0
 * refuted: -DJOBS=1 -DBARRIERS=0
 * compile: -DSAFETY -DCOLLAPSE -DMEMLIM=2048
 */
#ifndef JOBS
#define JOBS 2
#endif
#ifndef PARTS
#define PARTS 2
#endif
#ifndef HELPERS
#define HELPERS 1
#endif
#ifndef STOP
#define STOP 0
#endif
#ifndef LIFE
#define LIFE 1
#endif
#ifndef LOOK_LIVE
#define LOOK_LIVE 1
#endif
#ifndef GRACE
#define GRACE 1
#endif
#ifndef COUNT
#define COUNT 1
#endif
#ifndef HOLD
#define HOLD 1
#endif
#ifndef PUBLISH_FIRST
#define PUBLISH_FIRST 1
#endif
#ifndef IN_USE
#define IN_USE 1
#endif
#ifndef LAST_LOOK
#define LAST_LOOK 1
#endif
#ifndef TAKE_KEPT
#define TAKE_KEPT 1
#endif
#ifndef BARRIERS
#define BARRIERS 1
#endif

#define WORKERS (1 + HELPERS)
#define OWNER   0

/* the job; its life stands for the numbers of its ports as well */
byte life = 0;
byte next = PARTS; /* with life, one word */
byte left = 0;
bool in_use = false;
bool slot = false;
byte copied[PARTS];
/* the queues */
bool live = true;
bool changed = false; /* their memory is gone */
bool under_way = false;
bool held = false; /* the sender's packets are in the list of this copy: of who has the queue */
byte sent = 0;
byte published = 0;
byte given_back = 0;
/* workers */
bool asleep = false; /* the owner, with the queue */
bool taken = false;  /* the queue, from it */
bool online[WORKERS];
bool waited_for[WORKERS]; /* by the grace period */

inline be_offline(w) {
	atomic { online[w] = false; waited_for[w] = false }
}

/* The life is that which the ports were looked up for. */
inline copy(w_life, part) {
	assert(!changed && w_life == life && copied[part] == 0);
	copied[part] = 1;
	assert(!changed)
}

inline count_down(last) {
	if
	:: COUNT -> atomic { left--; last = (left == 0) }
	:: else -> seen_left = left; left = seen_left - 1; last = (left == 0)
	fi
}

inline publish() {
	atomic {
		assert(!changed && published == sent - 1);
		for (i : 0 .. PARTS - 1) {
			assert(copied[i] == 1)
		}
		published++
	}
}

inline take_part(w_life, part, ok) {
	atomic {
		ok = (next == part && next < PARTS && (life == w_life || !LIFE));
		if
		:: ok -> next++
		:: else -> skip
		fi
	}
}

/* txq_complete(): of who has the queue. */
inline give_back() {
	atomic {
		held && !under_way ->
		assert(given_back < published);
		given_back++;
		held = false
	}
}

inline deliver() {
	atomic {
		sent++;
		for (i : 0 .. PARTS - 1) {
			copied[i] = 0
		}
		in_use = true;
		under_way = true;
		left = PARTS
	}
	atomic { life++; next = 0 }
	slot = true;
	last = false;
	do
	::
		atomic { my_life = life; part = next }
		if
		:: part == PARTS -> break
		:: else -> skip
		fi;
		take_part(my_life, part, ok);
		if
		:: ok -> copy(my_life, part); count_down(last)
		:: else -> skip
		fi
	od;
	slot = false;
	if
	:: last ->
		publish();
		atomic { under_way = false; in_use = false }
		held = true;
		give_back()
	:: !last && HOLD -> held = true
	:: !last && !HOLD -> assert(given_back < published); given_back++
	fi
}

proctype owner() {
	bool last = false, ok = false, looked = false;
	byte my_life = 0, part = 0, seen_left = 0, i = 0;

	do
	:: !taken ->
		online[OWNER] = true;
		if
		:: !live -> break
		:: else -> skip
		fi;
		if
		:: held && !under_way -> give_back()
		:: else -> skip
		fi;
		if
		:: sent < JOBS && ((!held && !in_use && !under_way) || !IN_USE) -> deliver()
		:: else ->
			/* part() and sleep_until_kicked() */
			if
			:: BARRIERS -> asleep = true; looked = held && !under_way
			:: else -> looked = held && !under_way; asleep = true
			fi;
			if
			:: looked && LAST_LOOK -> asleep = false
			:: else ->
				be_offline(OWNER);
				/* Till it is kicked: the guest has more to send. */
end:				((sent < JOBS && !held) || !live);
				atomic { !taken -> asleep = false }
			fi
		fi;
		be_offline(OWNER)
	od;
	be_offline(OWNER)
}

/* Ends what others have begun, or the last of it. */
inline end_job() {
	if
	:: PUBLISH_FIRST -> publish(); in_use = false
	:: else -> skip
	fi;
	if
	:: BARRIERS -> under_way = false; looked = asleep
	:: else -> looked = asleep; under_way = false
	fi;
	if
	:: !PUBLISH_FIRST -> publish(); in_use = false
	:: else -> skip
	fi;
	if
	:: looked && TAKE_KEPT && live ->
		/* The queue is taken over from who sleeps, and this worker's from here on. */
		atomic {
			if
			:: asleep && !taken -> taken = true; ok = true
			:: else -> ok = false
			fi
		}
		if
		:: ok && held && !under_way -> give_back(); atomic { taken = false; asleep = false }
		:: ok && !(held && !under_way) -> atomic { taken = false; asleep = false }
		:: else -> skip
		fi
	:: else -> skip
	fi
}

proctype helper(byte w) {
	bool last = false, ok = false, looked = false;
	byte my_life = 0, part = 0, seen_left = 0, i = 0;

end:	do
	:: atomic { slot -> online[w] = true };
		atomic { ok = slot; slot = false }
		if
		:: !ok -> goto offline
		:: else -> skip
		fi;
		do
		::
			atomic { my_life = life; part = next }
			if
			:: part == PARTS || (LOOK_LIVE && !live) -> break
			:: else -> skip
			fi;
			take_part(my_life, part, ok);
			if
			:: ok ->
				copy(my_life, part);
				count_down(last);
				if
				:: last -> end_job(); break
				:: else -> skip
				fi
			:: else -> skip
			fi
		od;
offline:	atomic { last = false; ok = false; looked = false; my_life = 0; part = 0; seen_left = 0; i = 0 }
		be_offline(w)
	od
}

#if STOP
active proctype main_thread() {
	byte w;

	live = false;
	atomic {
		for (w : 0 .. WORKERS - 1) {
			waited_for[w] = online[w] && GRACE
		}
	}
	do
	:: atomic { !waited_for[OWNER] && !waited_for[1] && !waited_for[HELPERS] -> break }
	od;
	/* txq_stop(), rxq_stop(): what is held back is published, and goes back. */
	assert(!under_way && published == sent);
	if
	:: held -> give_back()
	:: else -> skip
	fi;
	assert(given_back == sent);
	changed = true
}
#endif

init {
	byte w;

	atomic {
		run owner();
		for (w : 1 .. HELPERS) {
			run helper(w)
		}
	}
	timeout -> assert(STOP || (sent == JOBS && published == JOBS && given_back == JOBS))
}
