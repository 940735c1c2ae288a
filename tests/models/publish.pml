/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Publishing in order without waiting (datapath/rxq.c): senders take tickets and fill their buffers in any order. The turn
 * to publish goes from ticket to ticket: who completes one publishes it if it has the turn, or leaves word that it is
 * done for whoever brings the turn. Claims: nobody publishes beside another; what is published is complete (no
 * buffer is shown before it was filled), in the order of tickets; the publications that the senders are told of cover
 * all of it, once each; once all senders are done everything is published although nobody ever waited. Tickets' places
 * are used again: there are fewer of them than senders. And a sender gets its buffers back when its ticket is published, by
 * whomever (datapath/hold.c): were the process killed at any time before, its packets would still be in its ring.
 *
 * Each place's state is exchanged, by its owner and by who brings the turn, so that one sees the other: with a look and
 * a store instead (EXCHANGE=0) a ticket may be forgotten. The used index is written before the turn goes on
 * (WRITE_FIRST), and no place is given away that is not published (BOUND). Whoever has left its ticket to others looks
 * from time to time whether the oldest ticket is a later one (HOLD); that is written behind the used index.
 *
 * model: -DSENDERS=3
 * model: -DSENDERS=4 -DPLACES=2
 * model: -DSENDERS=4 -DPLACES=3
 * refuted: -DSENDERS=3 -DEXCHANGE=0
 * refuted: -DSENDERS=4 -DWRITE_FIRST=0
 * refuted: -DSENDERS=4 -DBOUND=0
 * refuted: -DSENDERS=2 -DHOLD=0
 * compile: -DSAFETY -DCOLLAPSE -DMEMLIM=2048
 */
#ifndef SENDERS
#define SENDERS 3
#endif
#ifndef PLACES
#define PLACES 2
#endif
#ifndef EXCHANGE
#define EXCHANGE 1
#endif
#ifndef WRITE_FIRST
#define WRITE_FIRST 1
#endif
#ifndef BOUND
#define BOUND 1
#endif
#ifndef HOLD
#define HOLD 1
#endif

#define OPEN 0
#define TURN 1
#define DONE 2

byte ticket_next = 0;
byte ticket_oldest = 0;
byte state[PLACES];
byte owner[PLACES]; /* ticket that the place was given to: stands for used_end */
bool filled[SENDERS];
byte published = 0; /* used index in the guest's memory, in tickets */
byte told = 0;      /* tickets in the publications that senders were told of */
byte publishers = 0;
byte finished = 0;

/* rxq_reserve_begin() to rxq_reserve_end(), under the reserve lock */
inline reserve() {
	atomic {
		ticket_next - ticket_oldest < PLACES || !BOUND ->
		ticket = ticket_next;
		owner[ticket % PLACES] = ticket;
		ticket_next++
	}
}

inline write() {
	assert(to > published);
	told = told + to - published;
	published = to
}

/* publish_from() */
inline publish() {
	at = ticket;
	do
	::
		publishers++;
		assert(publishers == 1);
		do
		::
			to = owner[at % PLACES] + 1;
			assert(to == at + 1 && filled[at]);
			state[at % PLACES] = OPEN;
			at++;
			if
			:: state[at % PLACES] == DONE -> skip
			:: else -> break
			fi
		od;
		if
		:: WRITE_FIRST -> write()
		:: else -> skip
		fi;
		ticket_oldest = at;
		publishers--;
		atomic { was = state[at % PLACES]; state[at % PLACES] = TURN }
		if
		:: !WRITE_FIRST -> write()
		:: else -> skip
		fi;
		if
		:: was == DONE -> skip
		:: else -> break
		fi
	od
}

proctype sender() {
	byte ticket, at, to, was;

	reserve();
	filled[ticket] = true;
	if
	:: EXCHANGE -> atomic { was = state[ticket % PLACES]; if :: was != TURN -> state[ticket % PLACES] = DONE :: else -> skip fi }
	:: else -> was = state[ticket % PLACES]; if :: was != TURN -> state[ticket % PLACES] = DONE :: else -> skip fi
	fi;
	if
	:: was == TURN -> publish()
	:: else ->
		if
		:: HOLD -> ticket_oldest > ticket -> skip
		:: else -> skip
		fi
	fi;
	/* txq_complete() */
	assert(published > ticket);
	finished++
}

init {
	byte i;

	atomic {
		state[0] = TURN;
		for (i : 1 .. SENDERS) {
			run sender()
		}
	}
	finished == SENDERS;
	assert(published == SENDERS && told == SENDERS && ticket_oldest == SENDERS)
}
