/**
 * The lease: one load per key across processes, and the fence against stale fills.
 *
 * After Nishtala et al., "Scaling Memcache at Facebook" (NSDI 2013), section 3.2.1. The race it ends:
 *
 * ```text
 * 1. reader: GET key            -> miss
 * 2. reader: SELECT             -> old row
 * 3. writer: UPDATE, COMMIT
 * 4. writer: DEL key
 * 5. reader: SET key old row    -> stale until the TTL
 * ```
 *
 * Here step 1 leaves a lease with a fresh nonce beside the value, step 4 removes value and lease
 * together, and step 5 stores only while its own nonce stands: it finds none, and is refused. A
 * nonce, not a counter: an evicted counter restarts, and lets an old fill through.
 *
 * A lease reads `nonce stamp`. The stamp is made of the tag versions it was taken under; one taken
 * under other versions began before an invalidation by tag, so it does not count and is replaced.
 *
 * @module
 */

import type { TagVersion } from "./entry.ts";

const UNSTORABLE = "!";

/** Makes the text of a lease: `nonce` must be one that nobody has used, and hold no space. */
export function leaseOf(nonce: string, tags: readonly TagVersion[]): string {
  return `${nonce} ${tags.map((tag) => tag.version).join(",")}`;
}

/**
 * Makes the text that stands in place of a lease while the value of its key cannot be stored: it is too
 * large, or its time to live is over. Whoever finds it loads at once, where it would else wait for a
 * holder that stores nothing, and then for the next one.
 */
export function unstorableMark(tags: readonly TagVersion[]): string {
  return leaseOf(UNSTORABLE, tags);
}

/** Tells whether a text that stands in place of a lease is an {@linkcode unstorableMark}. */
export function isUnstorable(holder: string): boolean {
  return holder.startsWith(`${UNSTORABLE} `);
}

/** The part of a lease that tells under which tag versions it was taken. */
export function stampOf(lease: string): string {
  return lease.slice(lease.indexOf(" "));
}

/**
 * KEYS: value and lease of each key. ARGV: leaseMs, then of each key lease and seen (empty, or `=` and the
 * mark of an entry). Answers holder and value of each key.
 *
 * A value that differs from the one the caller saw is somebody's fill since: it is answered, and no
 * lease taken. `pcall`, because a foreign type under our key must read as "nothing there".
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
      replies[i], replies[i + 1] = lease, false
    end
  end
end
return replies
`;

/**
 * KEYS: value and lease of each key. ARGV: lease, bytes and ttlMs of each key. Answers for each key 1 if it
 * is stored, 0 if refused.
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

/** KEYS: lease. ARGV: lease, its successor, for how many milliseconds (0: none). */
export const RELEASE_LUA = `
if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[3] ~= '0' then return redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return redis.call('DEL', KEYS[1])
`;

/**
 * KEYS: value, lease. ARGV: now. Ends the fresh life of a value: it serves as a stale one for its grace. A
 * load under way may have begun with older data, so its lease ends too.
 */
export const EXPIRE_LUA = `
redis.call('DEL', KEYS[2])
local head = redis.pcall('GETRANGE', KEYS[1], 10, 25)
if type(head) ~= 'string' or #head < 16 then return 0 end
local fresh, stale = struct.unpack('<dd', head)
local now, grace = tonumber(ARGV[1]), stale - fresh
if fresh <= now then return 1 end
if grace <= 0 then return redis.call('DEL', KEYS[1]) end
redis.call('SETRANGE', KEYS[1], 10, struct.pack('<dd', now, now + grace))
return redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.ceil(grace)))
`;

/** KEYS: value, lease. ARGV: bytes, ttlMs. A write: whoever is loading must not overwrite it. */
export const SET_LUA = `
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('DEL', KEYS[2])
return 1
`;
