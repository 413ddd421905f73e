/**
 * The cache keys and tags of users. Nothing else builds them.
 *
 * @module
 */

/** Carried by everything that is made of users: invalidated when any of them may have changed. */
export const USERS_TAG = "users";

/** Carried by every cached page of users, and invalidated by every write to a user. */
export const USERS_LIST_TAG = "users:list";

/** What the key of every single user begins with. */
export const USER_PREFIX = "user:";

/** The key of one user. */
export function userKey(id: number): string {
  return USER_PREFIX + id;
}

/** The id in a key that {@linkcode userKey} made. */
export function userIdOf(key: string): number {
  return Number(key.slice(USER_PREFIX.length));
}

/** The key of a page by number. */
export function usersPageKey(page: number, limit: number): string {
  return `users:page=${page}&limit=${limit}`;
}

/** The key of the page that follows an id. */
export function usersAfterKey(after: number, limit: number): string {
  return `users:after=${after}&limit=${limit}`;
}
