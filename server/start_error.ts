/**
 * What ends a start, since only a person can put it right.
 *
 * @module
 */
import { OtherSourceError } from "../cache/mod.ts";
import { adviceOn } from "../db/advice.ts";
import { DeclarationError } from "../db/table_shape.ts";
import type { Table } from "../routes/table.ts";
import { messageOf } from "./message_of.ts";
import { readFirst } from "./readiness.ts";
import { unlistedAddress } from "./unlisted_address.ts";
import { within } from "./within.ts";

/** How long the relay may take to find out that it may not read the outbox. */
const RELAY_MS = 2_000;

/** Keeps the service from serving until somebody changes it. The message is all there is to say. */
export class StartError extends Error {
  /** Names the class in logs. */
  override readonly name = "StartError";
}

/**
 * Why the service can never work as things are: a wrong password, a database, table, column or right that
 * is missing, an address that the permissions do not list. `undefined`: it can, or cannot for a reason that
 * passes by itself.
 *
 * @param relayRefused Resolves with what the relay of changes is refused for good.
 */
export async function refusalOf(
  tables: readonly Table[],
  relayRefused: Promise<unknown>,
): Promise<StartError | undefined> {
  try {
    for (const table of tables) await readFirst(table);
  } catch (error) {
    return startErrorOf(error);
  }
  return startErrorOf(await within(RELAY_MS, relayRefused, undefined));
}

/** The error that ends the start, where `error` does not pass by itself. */
export function startErrorOf(error: unknown): StartError | undefined {
  if (error instanceof DeclarationError || error instanceof OtherSourceError) {
    return new StartError(error.message, { cause: error });
  }
  const address = unlistedAddress(error);
  const advice = address === undefined ? adviceOn(error) : unlistedAdvice(address);
  if (advice === undefined) return undefined;
  return new StartError(`Cannot serve: ${messageOf(error)}. ${advice}`, { cause: error });
}

function unlistedAdvice(address: string): string {
  return `The permissions of this process do not list ${address}: \`deno task start\` computes them from ` +
    "the configuration; in a container, give it a command of your own with that address in --allow-net";
}
