import { DatabaseUnavailableError } from "../database.ts";

/**
 * SQLSTATEs that say "not now" rather than "not like this": connection exceptions (08), insufficient
 * resources such as too many connections (53), shutdown, crash and start-up (57P01 to 57P05), the
 * statement timeout (57014), transactions ended by their own timeout (25P03, 25P04), and a server that
 * takes no writes, as another has become the primary (25006).
 */
const UNAVAILABLE_STATES = /^(?:08|53)[0-9A-Z]{3}$|^57P0[1-5]$|^57014$|^25P0[34]$|^25006$/;

/** The SQLSTATE of a server that takes no writes: its address may lead to the primary by now. */
export const READ_ONLY = "25006";

/** Whether a SQLSTATE is worth a retry later. */
export function isUnavailableState(state: string): boolean {
  return UNAVAILABLE_STATES.test(state);
}

/** The error callers catch, with the driver's own as its cause. Names no host and no user. */
export function unavailable(reason: string, cause: unknown): DatabaseUnavailableError {
  return new DatabaseUnavailableError(`Cannot use Postgres now: ${reason}`, { cause });
}
