/**
 * The mark in the store that says which source of truth its values were loaded from.
 *
 * Two programs with databases of their own and one Redis would answer each other's rows. So who comes to a store
 * that is another's refuses it while that one is in use, and takes it over, cleared, once it is not.
 *
 * @module
 */

/** How long a store counts as in use after its owner said so last. */
export const IN_USE_MS = 60_000;
/** How often an owner says so. */
export const SAY_SO_MS = 20_000;

/** The owner of a store, as it was found. */
export type Claim =
  /** The source that asked, from now on if it was nobody's. */
  | { readonly owner: "self" }
  /** Another source, which is in use or not. */
  | { readonly owner: "other"; readonly name: string; readonly inUse: boolean };

/**
 * KEYS: source, in use. ARGV: the name of the source, how long it is in use, `1` to take the store over.
 * Answers the owner before, and whether it is in use.
 */
export const CLAIM_LUA = `
local standing = redis.pcall('GET', KEYS[1])
if type(standing) == 'string' and standing ~= ARGV[1] and ARGV[3] ~= '1' then
  return {standing, redis.pcall('GET', KEYS[2]) and 1 or 0}
end
if standing ~= ARGV[1] then redis.call('SET', KEYS[1], ARGV[1]) end
redis.call('SET', KEYS[2], '1', 'PX', ARGV[2])
return {ARGV[1], 1}
`;
