/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Publishing in order without waiting (datapath/rxq.c): senders take tickets, fill their buffers in any order, and
 * pass the turn to publish from ticket to ticket. Who completes a ticket and has no turn yet leaves word that it is
 * done; who passes the turn on to a ticket that is done publishes it as well. Claims: what is published is always
 * complete (no buffer is shown before it was filled), in the order of tickets; the used index never goes back; a
 * ticket's place is used again while others are under way; and once all senders are done everything is published
 * although nobody ever waited.
 *
 * With a load and a store instead of the exchange (EXCHANGE=0) a ticket may be forgotten. With the turn passed on
 * before the used index is written (INDEX_FIRST=0) the index may go back.
 *
 * model: -DSENDERS=3
 * model: -DSENDERS=2 -DROUNDS=3
 * refuted: -DSENDERS=3 -DEXCHANGE=0
 * refuted: -DSENDERS=3 -DINDEX_FIRST=0
 */
#ifndef SENDERS
#define SENDERS 3
#endif
#ifndef ROUNDS
#define ROUNDS 1
#endif
#ifndef EXCHANGE
#define EXCHANGE 1
#endif
#ifndef INDEX_FIRST
#define INDEX_FIRST 1
#endif
#define TICKETS 4 /* places; RXQ_TICKETS */

#define OPEN 0
#define TURN 1
#define DONE 2

byte ticket_next = 0;
byte ticket_oldest = 0;
byte state[TICKETS];
bool filled[SENDERS * ROUNDS + 1];
byte published = 0; /* used index in the guest's memory, in tickets */
byte finished = 0;

inline exchange(place, value, old) {
	if
	:: EXCHANGE -> atomic { old = state[place]; state[place] = value }
	:: else -> old = state[place]; state[place] = value
	fi
}

inline publish(index) {
	atomic { assert(index > published); published = index }
}

proctype sender() {
	byte ticket, old, i;

	for (i : 1 .. ROUNDS) {
		/* rxq_reserve_begin to rxq_reserve_end, under the reserve lock */
		atomic {
			ticket_next - ticket_oldest < TICKETS;
			ticket = ticket_next;
			ticket_next++
		}
		filled[ticket] = true;
		old = state[ticket % TICKETS];
		if
		:: old != TURN -> exchange(ticket % TICKETS, DONE, old)
		:: else -> skip
		fi;
		if
		:: old == TURN ->
			do
			::	do
				::	assert(filled[ticket]);
					state[ticket % TICKETS] = OPEN;
					ticket++;
					if
					:: state[ticket % TICKETS] != DONE -> break
					:: else -> skip
					fi
				od;
				if
				:: INDEX_FIRST -> publish(ticket)
				:: else -> skip
				fi;
				ticket_oldest = ticket;
				exchange(ticket % TICKETS, TURN, old);
				if
				:: !INDEX_FIRST -> publish(ticket)
				:: else -> skip
				fi;
				if
				:: old != DONE -> break
				:: else -> skip
				fi
			od
		:: else -> skip
		fi
	}
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
	assert(published == SENDERS * ROUNDS)
}
