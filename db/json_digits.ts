/**
 * JSON that keeps the digits of its numbers: `12345678901234567890.10` stays that, whatever a float can
 * hold.
 *
 * @module
 */

/** ECMAScript's "JSON.parse source text access", which TypeScript does not know yet. */
interface SourceAccess {
  rawJSON(text: string): unknown;
  parse(
    text: string,
    revive: (key: string, value: unknown, context: { readonly source?: string }) => unknown,
  ): unknown;
}

const json = JSON as unknown as SourceAccess;

/** The value of a JSON text. Numbers that a float cannot hold are written by `JSON.stringify` as they came. */
export function parseDigits(text: string): unknown {
  return json.parse(
    text,
    (_key, value, { source }) =>
      typeof value === "number" && source !== undefined ? numberOf(source) : value,
  );
}

/** A number of Postgres: as a number where that has the same text, else so that its text is kept. */
export function numberOf(text: string): unknown {
  const number = Number(text);
  if (String(number) === text && Number.isFinite(number)) return number;
  // Neither NaN nor infinity is JSON.
  return /^-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?$/.test(text) ? json.rawJSON(text) : text;
}

/** A whole number of 64 bits: a number while every reader of JSON has it exactly, else its text. */
export function wholeNumberOf(text: string): number | string {
  const number = Number(text);
  return Number.isSafeInteger(number) ? number : text;
}
