/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The kick hand-shake of a transmit queue: vq_driver_split_kick_due() against txq_kicks_on() and a worker that
 * sleeps. Claim: a worker never sleeps for good while there is something in the ring.
 *
 * Stores pass through a store buffer of one entry for each side, as on every processor with total store order: a
 * load may overtake an earlier store to another place. full_barrier() empties the buffer. BARRIERS=0 shows that
 * the claim does fail without them, so that the model is known to be able to fail. A sleeper that nobody wakes is an
 * invalid end state: the device ends when it has taken everything.
 *
 * model: -DEVENT_IDX=1
 * model: -DEVENT_IDX=0
 * refuted: -DEVENT_IDX=1 -DBARRIERS=0
 * refuted: -DEVENT_IDX=0 -DBARRIERS=0
 */
#ifndef EVENT_IDX
#define EVENT_IDX 1
#endif
#ifndef BARRIERS
#define BARRIERS 1
#endif
#define PACKETS 3
#define NO_EVENT 255

/* shared memory */
byte avail = 0;        /* available index: the driver's */
byte wish = NO_EVENT;  /* event index, or (EVENT_IDX == 0) 0: kick me, NO_EVENT: do not: the device's */
/* the store buffers */
bool driver_pending = false; byte driver_value;
bool device_pending = false; byte device_value;

chan kick = [1] of { bit }; /* an eventfd: a second kick is merged with the first */
byte taken = 0;

inline driver_store(value) {
	atomic { !driver_pending -> driver_value = value; driver_pending = true }
}

inline device_store(value) {
	atomic { !device_pending -> device_value = value; device_pending = true }
}

inline driver_barrier() {
	if
	:: BARRIERS -> !driver_pending
	:: !BARRIERS -> skip
	fi
}

inline device_barrier() {
	if
	:: BARRIERS -> !device_pending
	:: !BARRIERS -> skip
	fi
}

/* Memory takes what is buffered whenever it likes. */
active proctype memory() {
end:	do
	:: atomic { driver_pending -> avail = driver_value; driver_pending = false }
	:: atomic { device_pending -> wish = device_value; device_pending = false }
	od
}

active proctype driver() {
	byte index = 0, event;

	do
	:: index < PACKETS ->
		index++;
		driver_store(index);
		driver_barrier();
		event = wish;
		if
		:: (EVENT_IDX && event == index - 1) || (!EVENT_IDX && event == 0) ->
			if
			:: atomic { empty(kick) -> kick!1 }
			:: full(kick) -> skip
			fi
		:: else -> skip
		fi
	:: else -> break
	od
}

active proctype device() {
	byte seen, own;

	do
	:: /* awake: kicks off, take what is there */
		if
		:: !EVENT_IDX -> device_store(NO_EVENT)
		:: else -> skip
		fi;
		seen = avail;
		taken = seen;
		/* arm, look again, sleep */
		own = (EVENT_IDX -> taken : 0);
		device_store(own);
		device_barrier();
		seen = avail;
		if
		:: seen != taken -> skip
		:: else ->
			if
			:: taken == PACKETS -> break
			:: else ->
				kick?_
			fi
		fi
	od
}
