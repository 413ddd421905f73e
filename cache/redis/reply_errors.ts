/**
 * Kinds of errors that Redis replies.
 *
 * @module
 */

const REFUSES_ALL = /^(LOADING|NOAUTH|MASTERDOWN|CLUSTERDOWN) /;

/** True if Redis replied with an error, as opposed to not replying. */
export function isReply(error: unknown): error is Error {
  return error instanceof Error && error.name === "ReplyError";
}

/** True if the server replies, but for now with the same error to every command. */
export function refusesAll(error: unknown): boolean {
  return isReply(error) && REFUSES_ALL.test(error.message);
}

/** True if the key holds a type that the command cannot read. */
export function isWrongType(error: unknown): boolean {
  return isReply(error) && error.message.startsWith("WRONGTYPE");
}

/** True if the server refused to select the database of a connection. */
export function isOfSelect(error: unknown): boolean {
  if (!isReply(error) || !("command" in error)) return false;
  const { command } = error;
  return typeof command === "object" && command !== null && "name" in command &&
    command.name === "select";
}

/** True if the server does not know the script with that hash. */
export function isUnknownScript(error: unknown): boolean {
  return isReply(error) && error.message.startsWith("NOSCRIPT");
}
