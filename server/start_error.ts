/**
 * What ends a start, since only a person can put it right.
 *
 * @module
 */
import { adviceOn } from "../db/advice.ts";
import type { Users } from "../db/users.ts";
import { messageOf } from "./message_of.ts";

/** Keeps the service from serving until somebody changes it. The message is all there is to say. */
export class StartError extends Error {
  /** Names the class in logs. */
  override readonly name = "StartError";
}

/**
 * Why users can never be read as things are: a wrong password, a database or table that is missing.
 * `undefined`: they can be read, or cannot for a reason that passes by itself.
 */
export async function refusalOf(users: Users): Promise<StartError | undefined> {
  try {
    await users.list({ page: 1, limit: 1 });
    return undefined;
  } catch (error) {
    const advice = adviceOn(error);
    if (advice === undefined) return undefined;
    return new StartError(`Cannot serve: ${messageOf(error)}. ${advice}`, { cause: error });
  }
}
