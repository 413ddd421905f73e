import { DatabaseUnavailableError } from "../database.ts";
import { DeadlineError } from "./_deadline.ts";

/**
 * SQLSTATEs that mean "not now": connection exceptions (08), insufficient resources such as too many connections
 * (53), shutdown, crash and start-up (57P01 to 57P05), the statement timeout (57014), transactions ended by
 * their own timeout (25P03, 25P04), and a server that accepts no writes, because another has become the primary
 * (25006).
 */
const UNAVAILABLE_STATES = /^(?:08|53)[0-9A-Z]{3}$|^57P0[1-5]$|^57014$|^25P0[34]$|^25006$/;

/** The SQLSTATE of a server that accepts no writes: its address may now lead to the primary. */
export const READ_ONLY = "25006";

/** The error for callers, with the driver's as its cause. Contains no host and no user. */
export function unavailable(reason: string, cause: unknown): DatabaseUnavailableError {
  return new DatabaseUnavailableError(`Cannot use Postgres now: ${reason}`, { cause });
}

/**
 * Translates an error for callers: "not now" is one class, anything else is unchanged.
 *
 * @param state The SQLSTATE, if the error is from Postgres.
 * @param reason Said of an error that is not, and so of the connection.
 */
export function toldOf(error: unknown, state: string | undefined, reason: string): unknown {
  if (error instanceof DatabaseUnavailableError) return error;
  if (error instanceof DeadlineError) return unavailable("it does not answer", error);
  if (state === undefined) return unavailable(reason, error);
  return UNAVAILABLE_STATES.test(state) ? unavailable(`it answered ${state}`, error) : error;
}
