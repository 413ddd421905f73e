/**
 * Errors as one line for a log or terminal: the message and that of each cause, without stacks, which are for
 * defects.
 *
 * @module
 */

/** Limit of nested causes. */
const DEPTH_MAX = 5;

/** The message of an error and of its causes, each once. */
export function messageOf(error: unknown, depth = 0): string {
  if (!(error instanceof Error)) return String(error);
  const own = ownMessage(error);
  if (error.cause === undefined || depth >= DEPTH_MAX) return own;
  const cause = messageOf(error.cause, depth + 1);
  return own.includes(cause) ? own : `${own}: ${cause}`;
}

/** Node leaves the message empty if a name has several addresses and none of them answers. */
function ownMessage(error: Error): string {
  if (error.message !== "") return error.message;
  if (!(error instanceof AggregateError)) return error.name;
  return [...new Set(error.errors.map((each) => messageOf(each, DEPTH_MAX)))].join("; ");
}
