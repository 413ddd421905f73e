/**
 * The mark in the store that names the source of truth of its values.
 *
 * Without it, two programs with different databases and one Redis would answer each other's rows. A program that
 * finds a store with the mark of another source refuses it while it is in use; later it clears the store and
 * takes it over.
 *
 * @module
 */

/** Time for which a store counts as in use after its owner's last claim. */
export const IN_USE_MS = 60_000;
/** Interval at which an owner repeats its claim, so that the store counts as in use. */
export const CLAIM_MS = 20_000;

/** The owner of a store after a claim: the source that asked, unless another owned it before. */
export interface Owner {
  /** The name of the source. */
  readonly name: string;
  readonly inUse: boolean;
}

/**
 * KEYS: source, in use. ARGV: the name of the source, for how long it is in use, `1` to take the store over.
 * Answers the previous owner, and whether it is in use. A server that is out of memory still runs PEXPIRE.
 */
export const CLAIM_LUA = `
local standing = redis.pcall('GET', KEYS[1])
if type(standing) == 'string' and standing ~= ARGV[1] and ARGV[3] ~= '1' then
  return {standing, redis.pcall('GET', KEYS[2]) and 1 or 0}
end
if standing ~= ARGV[1] then redis.call('SET', KEYS[1], ARGV[1]) end
if redis.call('PEXPIRE', KEYS[2], ARGV[2]) == 0 then
  redis.call('SET', KEYS[2], '1', 'PX', ARGV[2])
end
return {ARGV[1], 1}
`;
