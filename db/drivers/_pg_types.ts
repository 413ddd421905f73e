// @ts-types="./_pg.d.ts"
import pg from "pg";

/** The types that `pg` reads as values of JSON, by OID. */
const READ: ReadonlySet<number> = new Set([
  ...[16, 17, 21, 23, 26, 114, 700, 701, 3802], // bool, bytea, int2, int4, oid, json, float4, float8, jsonb
  ...[1005, 1007, 1009, 1015, 1016], // int2[], int4[], text[], varchar[], int8[]
  ...[1021, 1022, 2951], // float4[], float8[], uuid[]
]);
/** date, timestamp, timestamptz. */
const DATES: ReadonlySet<number> = new Set([1082, 1114, 1184]);

/** Readers of types. Values of other types stay the text of Postgres, as a bigint must. */
export const types = {
  /** Chooses the reader of a type. */
  getTypeParser(oid: number): (text: string) => unknown {
    if (DATES.has(oid)) return (text) => new Date(text);
    return READ.has(oid) ? pg.types.getTypeParser(oid, "text") : (text) => text;
  },
};
