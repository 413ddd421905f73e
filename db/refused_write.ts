/**
 * Writes that Postgres refuses, for a reason of the client or a temporary one.
 *
 * @module
 */
import { DatabaseUnavailableError } from "./database.ts";

/** The reason why a write was refused. */
export type Refusal =
  | "taken"
  | "referred to"
  | "refers to nothing"
  | "required"
  | "constraint"
  | "value";

/** Postgres refused a write, and would refuse it again. */
export class RefusedWriteError extends Error {
  override readonly name = "RefusedWriteError";
  /** The reason. */
  readonly refusal: Refusal;
  /** The columns concerned, if Postgres names them. */
  readonly columns: readonly string[];

  /** @param cause The error of the driver. */
  constructor(refusal: Refusal, columns: readonly string[], cause: unknown) {
    super(`Cannot write: ${refusal} (${columns.join(", ")})`, { cause });
    this.refusal = refusal;
    this.columns = columns;
  }
}

const REFUSALS: readonly (readonly [states: RegExp, refusal: Refusal])[] = [
  [/^(23505|23P01)$/, "taken"],
  [/^23502$/, "required"],
  [/^(23000|23514|44000|P000[1-4])$/, "constraint"],
  // A value of a type with a syntax of its own (`tsquery`), or one that is too long for an index or nested too
  // deeply: the statement itself is always the same.
  [/^(22...|42601|42602|42622|54000|54001)$/, "value"],
];

/** Routines of Postgres that refuse a row for a table: `RAISE` in a trigger; a policy, or the check of a view. */
const RULES: ReadonlySet<unknown> = new Set(["exec_stmt_raise", "ExecWithCheckOptions"]);

/** Something unknown has been named: by a value (`regclass`, `aclitem`) if the error has no place in a statement. */
const UNKNOWN_NAME = /^(3F000|42704|42725|42883|42P01)$/;

/** Serialization failure, deadlock, lock time-out. */
const PASSING = /^(40001|40P01|55P03)$/;

/** The fields of a Postgres error, which drivers keep in different places. */
interface Fields {
  readonly code?: unknown;
  readonly constraint?: unknown;
  readonly constraint_name?: unknown;
  readonly column?: unknown;
  readonly column_name?: unknown;
  readonly detail?: unknown;
  readonly position?: unknown;
  readonly where?: unknown;
  readonly routine?: unknown;
  readonly file?: unknown;
}

/**
 * Makes the error of a failed write: refused, or temporarily impossible. Any other error is returned as it is.
 * `columnsOf` knows the columns of a constraint.
 */
export function toldOfWrite(
  error: unknown,
  columnsOf: (constraint: string) => readonly string[] | undefined,
): unknown {
  if (!(error instanceof Error)) return error;
  const given = error as Fields & { readonly fields?: Fields };
  const { code, detail, ...fields } = given.fields ?? given;
  const state = String(code ?? "");
  const constraint = String(fields.constraint ?? fields.constraint_name ?? "");
  if (PASSING.test(state)) {
    return new DatabaseUnavailableError(`Cannot write now: Postgres answered ${state}`, {
      cause: error,
    });
  }
  const refusal = state === "23503" || state === "23001"
    ? referenceRefusal(detail, columnsOf(constraint))
    : REFUSALS.find(([states]) => states.test(state))?.[1] ?? refusalByPlace(state, fields);
  if (refusal === undefined) return error;
  const column = fields.column ?? fields.column_name;
  const columns = typeof column === "string" && column !== ""
    ? [column]
    : columnsOf(constraint) ?? [];
  return new RefusedWriteError(refusal, columns, error);
}

/** The reason that the place of an error in Postgres tells, where its state does not. */
function refusalByPlace(
  state: string,
  { routine, file, position, where }: Fields,
): Refusal | undefined {
  if (RULES.has(routine)) return "constraint";
  const isOfValue = UNKNOWN_NAME.test(state) && position === undefined && where === undefined;
  // Before Postgres 16, `hstore` calls a text that it cannot read an internal error.
  return isOfValue || state === "XX000" && file === "hstore_io.c" ? "value" : undefined;
}

/**
 * A foreign key of another table is not among the constraints of this one. One that refers to itself may be violated on
 * either side: the detail, in whatever language, names its columns or those that it refers to.
 */
function referenceRefusal(detail: unknown, columns: readonly string[] = []): Refusal {
  return columns.length > 0 && String(detail).includes(`(${columns.join(", ")})=(`)
    ? "refers to nothing"
    : "referred to";
}
