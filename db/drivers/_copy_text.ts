import type { SqlValue, ValueRows } from "../database.ts";

/** Size of a chunk: small enough to stream, large enough that calls cost little. */
const CHUNK_CHARACTERS = 64 * 1024;

function fieldText(value: SqlValue): string {
  if (value === null) return "\\N";
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  const text = typeof value === "string"
    ? value
    : value instanceof Date
    ? value.toISOString()
    : arrayText(value);
  // Most fields contain none of these, and a test is cheaper than four replacements.
  if (!/[\\\t\n\r]/.test(text)) return text;
  return text.replaceAll("\\", "\\\\").replaceAll("\t", "\\t").replaceAll("\n", "\\n")
    .replaceAll("\r", "\\r");
}

/** An array as Postgres reads it in text: `{"1","2"}`. */
function arrayText(values: readonly (string | number)[]): string {
  const elements = values.map((value) => `"${String(value).replace(/["\\]/g, "\\$&")}"`);
  return `{${elements.join(",")}}`;
}

/** One row in the text format of `COPY`, its newline included. */
function copyLine(row: readonly SqlValue[]): string {
  return row.map(fieldText).join("\t") + "\n";
}

/** Rows in the text format of `COPY`, in chunks. Calls `onRow` for each row. */
export async function* copyChunks(
  rows: ValueRows,
  onRow: () => void,
): AsyncGenerator<string> {
  let chunk = "";
  // A synchronous source is read without await, which for a million rows would cost more than the rows.
  if (Symbol.iterator in rows) {
    for (const row of rows) {
      onRow();
      chunk += copyLine(row);
      if (chunk.length < CHUNK_CHARACTERS) continue;
      yield chunk;
      chunk = "";
    }
  } else {
    for await (const row of rows) {
      onRow();
      chunk += copyLine(row);
      if (chunk.length < CHUNK_CHARACTERS) continue;
      yield chunk;
      chunk = "";
    }
  }
  if (chunk !== "") yield chunk;
}
