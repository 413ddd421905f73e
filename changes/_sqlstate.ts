/** The SQLSTATE of a driver's error; every driver stores it elsewhere. Empty if there is none. */
export function sqlStateOf(error: unknown): string {
  if (!(error instanceof Error)) return "";
  const { code, fields } = error as { code?: unknown; fields?: { code?: unknown } };
  return String(fields?.code ?? code ?? "");
}
