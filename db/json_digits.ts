/**
 * JSON that keeps the digits of its numbers: `12345678901234567890.10` stays as it is, although a float cannot
 * hold it.
 *
 * @module
 */

/** ECMAScript's "JSON.parse source text access", which TypeScript does not declare yet. */
interface SourceAccess {
  rawJSON(text: string): unknown;
  parse(
    text: string,
    revive: (key: string, value: unknown, context: { readonly source?: string }) => unknown,
  ): unknown;
}

const json = JSON as unknown as SourceAccess;

/** The value of a JSON text. `JSON.stringify` writes numbers that a float cannot hold as they were. */
export function parseDigits(text: string): unknown {
  return json.parse(
    text,
    (_key, value, { source }) =>
      typeof value === "number" && source !== undefined ? numberOf(source) : value,
  );
}

/** As {@linkcode parseDigits}, but numbers that a float can hold are numbers, however they are written. */
export function parseExact(text: string): unknown {
  return json.parse(
    text,
    (_key, value, { source }) =>
      typeof value === "number" && source !== undefined &&
        decimalOf(source) !== decimalOf(String(value))
        ? json.rawJSON(source)
        : value,
  );
}

/** As `JSON.stringify`, with the digits of a bigint. */
export function stringifyDigits(value: unknown): string {
  return JSON.stringify(
    value,
    (_key, part: unknown) => typeof part === "bigint" ? json.rawJSON(`${part}`) : part,
  );
}

/** The one form of a decimal number: its digits from the first to the last that is not 0, and an exponent. */
function decimalOf(text: string): string {
  const [, sign, whole = "", fraction = "", exponent = "0"] =
    /^(-?)(\d+)(?:\.(\d+))?(?:e([+-]?\d+))?$/i.exec(text) ?? [];
  const digits = (whole + fraction).replace(/^0+/, "");
  const significant = digits.replace(/0+$/, "");
  if (significant === "") return whole === "" ? text : "0";
  const shift = digits.length - significant.length - fraction.length;
  return `${sign}${significant}e${Number(exponent) + shift}`;
}

/** A number of Postgres: as a number if that has the same text, otherwise in a form that keeps its text. */
export function numberOf(text: string): unknown {
  const number = Number(text);
  if (String(number) === text && Number.isFinite(number)) return number;
  // NaN and infinity are not JSON.
  return /^-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?$/.test(text) ? json.rawJSON(text) : text;
}

/** A 64-bit integer: a number if every JSON reader can represent it exactly, otherwise its text. */
export function wholeNumberOf(text: string): number | string {
  const number = Number(text);
  return Number.isSafeInteger(number) ? number : text;
}
