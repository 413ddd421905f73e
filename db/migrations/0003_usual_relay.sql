-- The feed that relayed rows to the cache last: wake-ups are left to it, and the others look after it;
-- see db/_turn.ts. NULL: nobody knows.
ALTER TABLE lookaside_caches ADD COLUMN relay UUID;
