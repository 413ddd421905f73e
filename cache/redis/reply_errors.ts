/**
 * Errors that Redis answers, told apart.
 *
 * @module
 */

const REFUSES_ALL = /^(LOADING|NOAUTH|MASTERDOWN|CLUSTERDOWN) /;

/** Whether Redis itself answered with an error, as opposed to not answering. */
export function isReply(error: unknown): error is Error {
  return error instanceof Error && error.name === "ReplyError";
}

/** Whether the server answers, and will answer everything else the same for now. */
export function refusesAll(error: unknown): boolean {
  return isReply(error) && REFUSES_ALL.test(error.message);
}

/** Whether the key holds what the command cannot read. */
export function isWrongType(error: unknown): boolean {
  return isReply(error) && error.message.startsWith("WRONGTYPE");
}

/** Whether the server does not know the script of that hash. */
export function isUnknownScript(error: unknown): boolean {
  return isReply(error) && error.message.startsWith("NOSCRIPT");
}
