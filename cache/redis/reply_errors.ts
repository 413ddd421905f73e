/**
 * Kinds of errors that Redis replies.
 *
 * @module
 */

/** Tells whether an error is of one kind. */
type Kind = (error: unknown) => boolean;

const REFUSES = new RegExp(
  [
    /^(NOPERM|MISCONF|NOREPLICAS|READONLY) /,
    // A lack of rights that a script meets: up to Redis 7.0, and since.
    /^(ERR )?(The user executing the script|ACL failure in script)/,
    // The server lacks the command, or has renamed it.
    /^(ERR )?[uU]nknown (Redis )?command/,
  ].map(({ source }) => source).join("|"),
);
/** The words that Redis 6.2 puts before an error that a script meets. */
const IN_SCRIPT = /^ERR Error running script \(call to f_\w+\): (@user_script: ?\d+: )+-?/;

/** The client's own message once a cluster has redirected a command, or refused it for now, again and again. */
const REDIRECTED = /^Too many Cluster redirections/;

/** True if Redis replied with an error, as opposed to not replying. */
export function isReply(error: unknown): error is Error {
  return error instanceof Error && (error.name === "ReplyError" || isOfMovingSlot(error));
}

/** True if a command names several keys of a slot that is being moved, so that no server has them all. */
export function isOfMovingSlot(error: unknown): boolean {
  return error instanceof Error && REDIRECTED.test(error.message);
}

/** True if the server replies, but for now with the same error to every command. */
export const refusesAll: Kind = replies(/^(LOADING|BUSY|NOAUTH|MASTERDOWN|CLUSTERDOWN) /);

/** True if the server replies, but for now does not run commands like this one, whatever they contain. */
export const refuses: Kind = replies(REFUSES);

/** True if the server takes no writes, nor a `PING`, because it cannot save its data. */
export const cannotSave: Kind = replies(/^MISCONF /);

/** True if the server has no memory to store anything. */
export const isOutOfMemory: Kind = replies(/^OOM /);

/** True if a replica was to write: the primary that we wrote to has been demoted. */
export const isReadOnly: Kind = replies(/^READONLY /);

/** True if the key holds a type that the command cannot read. */
export const isWrongType: Kind = replies(/^WRONGTYPE/);

/** True if the server refused to select the database of a connection. */
export function isOfSelect(error: unknown): boolean {
  if (!isReply(error) || !("command" in error)) return false;
  const { command } = error;
  return typeof command === "object" && command !== null && "name" in command &&
    command.name === "select";
}

/** True if a Sentinel does not know the name of a primary. */
export const isUnknownPrimary: Kind = replies(/^ERR No such master/);

/** True if the server does not know the script with that hash. */
export const isUnknownScript: Kind = replies(/^NOSCRIPT/);

/** Tells error replies with that text, be it to a command or to one that a script ran. */
function replies(text: RegExp): Kind {
  return (error) => isReply(error) && text.test(error.message.replace(IN_SCRIPT, ""));
}
