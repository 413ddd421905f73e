/**
 * What ends a start, since only a person can put it right.
 *
 * @module
 */
import { adviceOn } from "../db/advice.ts";
import { DeclarationError } from "../db/table_shape.ts";
import type { Table } from "../routes/table.ts";
import { messageOf } from "./message_of.ts";
import { readFirst } from "./readiness.ts";

/** Keeps the service from serving until somebody changes it. The message is all there is to say. */
export class StartError extends Error {
  /** Names the class in logs. */
  override readonly name = "StartError";
}

/**
 * Why the tables can never be read as things are: a wrong password, a database, table or column that is
 * missing. `undefined`: they can be read, or cannot for a reason that passes by itself.
 */
export async function refusalOf(tables: readonly Table[]): Promise<StartError | undefined> {
  try {
    for (const table of tables) await readFirst(table);
    return undefined;
  } catch (error) {
    if (error instanceof DeclarationError) return new StartError(error.message, { cause: error });
    const advice = adviceOn(error);
    if (advice === undefined) return undefined;
    return new StartError(`Cannot serve: ${messageOf(error)}. ${advice}`, { cause: error });
  }
}
