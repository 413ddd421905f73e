import type { Change } from "./apply.ts";

/** The change in a row. */
export interface ChangedRow {
  /** The label of its table. */
  readonly label: string;
  /** `null`: the whole table. */
  readonly keys: readonly string[] | null;
  /** `null`: no values. */
  readonly values: readonly string[] | null;
}

/** The number of keys and values of rows. */
export function namesIn(rows: readonly ChangedRow[]): number {
  return rows.reduce(
    (sum, { keys, values }) => sum + (keys ?? []).length + (values ?? []).length,
    0,
  );
}

/** Reads the change of a row. */
export function changeOf({ label, keys, values }: ChangedRow): Change {
  return keys === null
    ? { table: label, keys: undefined, values: [] }
    : { table: label, keys, values: values ?? [] };
}

/** Merges changes by table, so that each name is invalidated once. */
export function merged(rows: readonly ChangedRow[]): Change[] {
  return [...Map.groupBy(rows.map(changeOf), ({ table }) => table)].map(([table, ofTable]) => {
    if (ofTable.some(({ keys }) => keys === undefined)) {
      return { table, keys: undefined, values: [] };
    }
    return {
      table,
      keys: [...new Set(ofTable.flatMap(({ keys = [] }) => keys))],
      values: [...new Set(ofTable.flatMap(({ values }) => values))],
    };
  });
}
