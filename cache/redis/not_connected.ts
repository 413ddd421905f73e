/** Messages of the client for commands without a connection: they name options that are not those of a cache. */
const WITHOUT_CONNECTION =
  /^(Reached the max retries|Stream isn't writeable|Connection is closed|Command aborted|Cluster isn't ready|None of startup)/;

/** A command was not sent or not answered, because there is no connection. It may have taken effect. */
export class NotConnectedError extends Error {
  override readonly name = "NotConnectedError";
}

/** True if an error with this message means that the client had no connection, or lost it. */
export function isWithoutConnection(message: string): boolean {
  return WITHOUT_CONNECTION.test(message);
}
