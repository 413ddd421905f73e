/**
 * The data that every contender caches: the users that `deno task seed` makes.
 *
 * @module
 */

/** How many users there are. */
export const USERS_COUNT = 1_000;

/** How many more there are, whom nobody has asked for. */
export const STRANGERS_COUNT = 1_000_000;

/** A user as the API answers it. */
export interface User {
  /** The primary key. */
  readonly id: number;
  /** The name. */
  readonly name: string;
  /** The address. */
  readonly email: string;
  /** A sentence. */
  readonly bio: string;
  /** ISO 8601. */
  readonly created_at: string;
}

/** The cache keys of all users, in the order of their ids. */
export const USER_KEYS: readonly string[] = Array.from(
  { length: USERS_COUNT },
  (_, index) => `user:${index + 1}`,
);

/** Makes the user with an id. */
export function userOf(id: number): User {
  return {
    id,
    name: `User ${id}`,
    email: `user${id}@example.com`,
    bio: `This is the bio for user ${id}. Lorem ipsum dolor sit amet, consectetur adipiscing elit.`,
    created_at: "2025-01-01T00:00:00.000Z",
  };
}

/** Makes the user of a cache key. */
export function userOfKey(key: string): User {
  return userOf(Number(key.slice("user:".length)));
}
