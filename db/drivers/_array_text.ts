import { parse } from "postgres-array";

/** An array as Postgres reads it in text: `{"1","2"}`. */
export function arrayText(values: readonly (string | number)[]): string {
  const elements = values.map((value) => `"${String(value).replace(/["\\]/g, "\\$&")}"`);
  return `{${elements.join(",")}}`;
}

/** A type as postgres.js takes it. */
export interface ArrayType {
  /** The OID it is written as. */
  to: number;
  /** The OIDs it is read from. */
  from: number[];
  /** Writes it. Arrays are text by then. */
  serialize(value: unknown): unknown;
  /** Reads it. */
  parse(text: string): unknown;
}

/** Types whose arrays come back as such. Others come back as text. */
export const arrayTypes: Record<"numbers" | "texts", ArrayType> = {
  numbers: {
    to: 1007,
    from: [1005, 1007, 1021, 1022], // int2, int4, float4, float8
    serialize: (value) => value,
    parse: (text) => parse(text, Number),
  },
  texts: {
    to: 1009,
    from: [1009, 1015, 1016, 2951], // text, varchar, int8, uuid
    serialize: (value) => value,
    parse: (text) => parse(text),
  },
};
