/**
 * The lease: one load per key across processes, and the fence against stale fills.
 *
 * After Nishtala et al., "Scaling Memcache at Facebook" (NSDI 2013), section 3.2.1. It prevents this race:
 *
 * ```text
 * 1. reader: GET key            -> miss
 * 2. reader: SELECT             -> old row
 * 3. writer: UPDATE, COMMIT
 * 4. writer: DEL key
 * 5. reader: SET key old row    -> stale until the TTL
 * ```
 *
 * With the lease, step 1 puts a fresh nonce beside the value, step 4 removes value and lease together, and step
 * 5 stores only if its own nonce is still there: it is not, so the fill is refused. A counter would not do:
 * after an eviction it restarts, and an old fill could match.
 *
 * The text of a lease is `nonce stamp`. The stamp is derived from the tag versions at the time. A lease with
 * another stamp began before an invalidation by tag, so it does not count and is replaced.
 *
 * @module
 */

import type { TagVersion } from "./entry.ts";

const UNSTORABLE = "!";

/** Makes the text of a lease: `nonce` must be unique and contain no space. */
export function leaseOf(nonce: string, tags: readonly TagVersion[]): string {
  return `${nonce} ${tags.map((tag) => tag.version).join(",")}`;
}

/**
 * Makes the text that replaces a lease while the key's value cannot be stored: it is too large, or has already
 * expired. A reader that finds it loads at once instead of waiting for a holder that stores nothing, and then
 * for the next one.
 */
export function unstorableMark(tags: readonly TagVersion[]): string {
  return leaseOf(UNSTORABLE, tags);
}

/** True if the text in place of a lease is an {@linkcode unstorableMark}. */
export function isUnstorable(holder: string): boolean {
  return holder.startsWith(`${UNSTORABLE} `);
}

/** The part of a lease that identifies the tag versions under which it was taken. */
export function stampOf(lease: string): string {
  return lease.slice(lease.indexOf(" "));
}

/**
 * KEYS: value and lease of each key. ARGV: leaseMs, then for each key lease and seen (empty, or `=` and the mark
 * of an entry). Answers holder and value of each key; the holder is 1 if it is the caller.
 *
 * A value that differs from the one the caller saw was filled since: it is answered, and no lease is taken.
 * `pcall`, because a foreign type under our key must count as "nothing there".
 */
export const ACQUIRE_LUA = `
local replies = {}
for i = 1, #KEYS, 2 do
  local lease, seen = ARGV[i + 1], ARGV[i + 2]
  local value = redis.pcall('GET', KEYS[i])
  local isNew = type(value) == 'string' and #value > 0 and
    (seen == '' or string.sub(value, 3, 18) ~= string.sub(seen, 2))
  if isNew then
    replies[i], replies[i + 1] = '', value
  else
    local held = redis.pcall('GET', KEYS[i + 1])
    local stamp = string.match(lease, ' .*$')
    if type(held) == 'string' and string.sub(held, -#stamp) == stamp then
      replies[i], replies[i + 1] = held, false
    else
      redis.call('SET', KEYS[i + 1], lease, 'PX', ARGV[1])
      replies[i], replies[i + 1] = 1, false
    end
  end
end
return replies
`;

/**
 * KEYS: value and lease of each key. ARGV: lease, bytes and ttlMs of each key. Answers for each key 1 if it was
 * stored, 0 if refused.
 */
export const FILL_LUA = `
local replies = {}
for i = 1, #KEYS / 2 do
  local value, lease, at = KEYS[2 * i - 1], KEYS[2 * i], 3 * i - 2
  replies[i] = 0
  if redis.pcall('GET', lease) == ARGV[at] then
    redis.call('SET', value, ARGV[at + 1], 'PX', ARGV[at + 2])
    redis.call('DEL', lease)
    replies[i] = 1
  end
end
return replies
`;

/** KEYS: lease. ARGV: lease, its successor, milliseconds that the successor lasts (0: none). */
export const RELEASE_LUA = `
if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[3] ~= '0' then return redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return redis.call('DEL', KEYS[1])
`;

/** Time by which the clock of a reader may be behind that of a process that calls `expire()`. */
const SKEW_MS_MAX = 60_000;

/**
 * KEYS: value, lease. ARGV: now. Ends the fresh life of a value, on every clock, and leaves it stale for its grace.
 * A running load may have begun with older data, so its lease ends too.
 */
export const EXPIRE_LUA: string = `
redis.call('DEL', KEYS[2])
local head = redis.pcall('GETRANGE', KEYS[1], 10, 25)
if type(head) ~= 'string' or #head < 16 then return 0 end
local fresh, stale = struct.unpack('<dd', head)
local now, grace = tonumber(ARGV[1]), stale - fresh
local over, ends = now - ${SKEW_MS_MAX}, math.min(stale, now + grace)
if fresh <= over then return 1 end
if grace <= 0 then return redis.call('DEL', KEYS[1]) end
redis.call('SETRANGE', KEYS[1], 10, struct.pack('<dd', over, ends))
if ends == stale then return 1 end
return redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.ceil(grace)))
`;

/**
 * KEYS: lease, value, and four others of each key. ARGV: leaseMs, then the lease of each key. Takes the lease from
 * whoever has it, removes the others, and answers the mark of each value, or an empty text.
 */
export const TAKE_LUA = `
local replies = {}
for i = 1, #KEYS / 6 do
  local at = 6 * i
  local mark = redis.pcall('GETRANGE', KEYS[at - 4], 2, 17)
  redis.call('SET', KEYS[at - 5], ARGV[i + 1], 'PX', ARGV[1])
  redis.call('UNLINK', KEYS[at - 3], KEYS[at - 2], KEYS[at - 1], KEYS[at])
  replies[i] = type(mark) == 'string' and mark or ''
end
return replies
`;

/** KEYS: value. ARGV: mark. Removes the value if it is the one with that mark. */
export const DROP_LUA = `
if redis.pcall('GETRANGE', KEYS[1], 2, 17) ~= ARGV[1] then return 0 end
return redis.call('UNLINK', KEYS[1])
`;
