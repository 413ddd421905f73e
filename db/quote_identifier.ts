/**
 * Writes `name` so that Postgres reads it as one identifier, whatever it contains. For the few places where a
 * name cannot be a bound parameter.
 *
 * @throws {TypeError} `name` is empty or contains a NUL, which an identifier cannot.
 */
export function quoteIdentifier(name: string): string {
  if (name === "" || name.includes("\0")) {
    throw new TypeError("Cannot quote an identifier: it is empty or holds a NUL");
  }
  return `"${name.replaceAll('"', '""')}"`;
}
