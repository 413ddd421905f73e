/**
 * The key of an entry in requests.
 *
 * @module
 */
import { z } from "zod";

/** The longest key of an entry, in UTF-16 code units. */
const KEY_LENGTH_MAX = 200;

/** The key of an entry, as the cache accepts it. */
export const EntryKey: z.ZodType<string, string> = z.string()
  // deno-lint-ignore no-control-regex -- control characters are what it is there to refuse
  .regex(/^[^{}\u0000-\u001f\u007f]+$/, {
    error: "Expected a key without braces and control characters",
  })
  .refine((key) => key.isWellFormed(), { error: "Expected a key without unpaired surrogates" })
  .refine((key) => key.length <= KEY_LENGTH_MAX, {
    error: `Expected at most ${KEY_LENGTH_MAX} characters`,
  })
  .meta({ description: "The entry's key", maxLength: KEY_LENGTH_MAX, example: "users:1" });
