/** The SQLSTATE of an error that a driver threw, which each keeps in its own place. Empty: it has none. */
export function sqlStateOf(error: unknown): string {
  if (!(error instanceof Error)) return "";
  const { code, fields } = error as { code?: unknown; fields?: { code?: unknown } };
  return String(fields?.code ?? code ?? "");
}
