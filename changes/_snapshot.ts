/** A snapshot of Postgres as text, `xmin:xmax:xip,…`: it says which transactions have ended and are visible. */
export interface Snapshot {
  /** All lower transactions have ended. */
  readonly xmin: bigint;
  /** This and all higher transactions have not begun. */
  readonly xmax: bigint;
  /** Those in between that have not ended. */
  readonly xip: readonly bigint[];
}

/** Reads a snapshot. */
export function parseSnapshot(text: string): Snapshot {
  const [xmin = "", xmax = "", xip = ""] = text.split(":");
  return {
    xmin: BigInt(xmin),
    xmax: BigInt(xmax),
    xip: xip === "" ? [] : xip.split(",").map(BigInt),
  };
}

/** The snapshot as though some transactions had not ended yet. */
export function without(text: string, xids: ReadonlySet<string>): string {
  if (xids.size === 0) return text;
  const { xmax, xip } = parseSnapshot(text);
  const open = [...new Set([...xip, ...[...xids].map(BigInt)])].sort((a, b) => a < b ? -1 : 1);
  return `${open[0] ?? xmax}:${xmax}:${open.join(",")}`;
}
