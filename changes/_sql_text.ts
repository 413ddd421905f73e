/** The name of a table as the text of a `regclass`, in a literal. */
export function qualifiedName([schema, table]: readonly [schema: string, table: string]): string {
  return literal(`${identifier(schema)}.${identifier(table)}`);
}

/** Texts as an array, in a literal. */
export function textArray(texts: readonly string[]): string {
  const elements = texts.map((text) =>
    /^\w+$/.test(text) && !/^null$/i.test(text) ? text : `"${text.replace(/["\\]/g, "\\$&")}"`
  );
  return literal(`{${elements.join(",")}}`);
}

/** A name, quoted if necessary. */
export function identifier(name: string): string {
  return /^[a-z_][a-z0-9_]*$/.test(name) ? name : `"${name.replaceAll('"', '""')}"`;
}

function literal(text: string): string {
  const quoted = `'${text.replaceAll("'", "''").replaceAll("\\", "\\\\")}'`;
  return text.includes("\\") ? `E${quoted}` : quoted;
}
