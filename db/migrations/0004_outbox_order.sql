-- The order in which rows are relayed. In that of the ids alone, each look would begin with all the rows
-- that are kept for a replay.

-- Every writer of a watched table would queue behind a migration that waits for one of them. Rather run
-- it again.
SET LOCAL lock_timeout = '3s';

DROP INDEX lookaside_outbox_xid;
CREATE INDEX lookaside_outbox_order ON lookaside_outbox (xid, id);
