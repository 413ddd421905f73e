/*
 * A second opinion on the heart of the protocol, for Spin: one key, two readers, two writers, leases that
 * run out, a writer that dies between its commit and its invalidation, a Redis that fails over and loses
 * its last write. (The model in this folder searches more: memory tiers, the feed, processes that die.)
 *
 *   spin -a lookaside.pml && cc -O2 -DSAFETY -o pan pan.c && ./pan -m100000
 *
 * finds no error. With `-DNO_LEASE`, `-DNO_OUTBOX` or `-DNO_REPLAY` given to `spin -a` it finds one, and
 * `spin -t -p lookaside.pml` prints how it comes about.
 */

#define NONE 0

byte row = 1;                  /* the version that Postgres holds */
byte acknowledged = 1;         /* the version of the last write that was acknowledged */
byte value = NONE;             /* the version that Redis holds */
byte lease = NONE;             /* the nonce of the lease that stands */
byte nonces = NONE;            /* nonces that were given out */
byte before = NONE;            /* what a replica held before the last write to its primary */
bool open = false;             /* whether the outbox holds a row that was not relayed */
bool lost = false;             /* whether a failover was not replayed yet: nothing is read from Redis */
byte running = 4;              /* readers and writers that are not done */

inline invalidate() {
  before = value;
  value = NONE;
  lease = NONE
}

proctype Reader(byte reads) {
  byte floor, found, nonce, loaded;
  do
  :: reads > 0 ->
    reads--;
    nonce = NONE;
    floor = acknowledged;
    found = NONE;
    if /* a reply is believed if it came over the connection that it was asked on */
    :: atomic { !lost -> found = value }
    :: lost
    fi;
    if
    :: found != NONE -> assert(found >= floor)
    :: else ->
      if /* takes the lease, if nobody holds it and Redis may be asked */
      :: atomic { !lost && lease == NONE && value == NONE ->
          nonces++; nonce = nonces; lease = nonce
        }
      :: lost || lease != NONE || value != NONE
      fi;
      loaded = row;
      assert(loaded >= floor);
      if /* fills if its lease stands, as one step */
      :: nonce != NONE ->
        atomic {
#ifdef NO_LEASE
          before = value; value = loaded; lease = NONE
#else
          if
          :: lease == nonce -> before = value; value = loaded; lease = NONE
          :: else
          fi
#endif
        }
      :: else
      fi
    fi
  :: reads == 0 -> break
  od;
  running--
}

proctype Writer() {
  byte written;
  atomic {
    row++;
    written = row;
#ifndef NO_OUTBOX
    open = true
#endif
  }
  if
  :: true ->
    atomic { invalidate() }
    atomic {
      if
      :: written > acknowledged -> acknowledged = written
      :: else
      fi
    }
  :: true -> skip /* it dies here, and nobody is told that the write succeeded */
  fi;
  running--
}

/* Runs for ever: where a fault may come, it may also not come. */
active proctype Relay() {
end:
  do
  :: atomic { open -> invalidate(); open = false }
  :: atomic { /* replays what was applied lately, and then Redis may be read */
      lost ->
#ifndef NO_REPLAY
      invalidate();
#endif
      lost = false
    }
  od
}

active proctype Faults() {
  bool failed = false;
end:
  do
  :: atomic { lease != NONE -> lease = NONE } /* it runs out */
  :: atomic { /* the replica takes over, and has not seen the last write */
      !failed -> failed = true; value = before; lease = NONE; lost = true
    }
  :: failed && lease == NONE -> break
  od
}

/* When all is quiet, Redis holds nothing or what Postgres holds. */
active proctype Quiet() {
  (running == 0 && !open && !lost);
  atomic { assert(open || lost || running > 0 || value == NONE || value == row) }
}

init {
  atomic { run Reader(2); run Reader(1); run Writer(); run Writer() }
}
