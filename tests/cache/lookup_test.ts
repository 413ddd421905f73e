import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Cache, type Jsonify } from "../../cache/mod.ts";

/** Compiles only if the two types are the same. */
function same<A, B>(_proof: [A] extends [B] ? ([B] extends [A] ? true : false) : false): void {}

interface Row {
  readonly id: number;
  readonly name: string | null;
  readonly email?: string;
}

describe("Jsonify", () => {
  it("leaves what JSON brings back as it is", () => {
    same<Jsonify<Row>, Row>(true);
    same<Jsonify<readonly Row[]>, readonly Row[]>(true);
    same<Jsonify<[string, number]>, [string, number]>(true);
    same<Jsonify<unknown>, unknown>(true);
    same<Jsonify<"a" | 1 | null>, "a" | 1 | null>(true);
  });

  it("tells what becomes of everything else", () => {
    same<Jsonify<Date>, string>(true);
    same<Jsonify<{ at: Date; of: Map<string, number> }>, { at: string; of: Record<string, never> }>(
      true,
    );
    same<Jsonify<{ a: 1; method(): void; big: bigint }>, { a: 1 }>(true);
    same<Jsonify<(Date | undefined)[]>, (string | null)[]>(true);
    same<Jsonify<() => void>, never>(true);
  });

  it("is the type of an answer", async () => {
    await using cache = new Cache();
    const load = () => Promise.resolve({ at: new Date(0), of: new Set([1]) });
    const value = (await cache.getOrLoad("a", load)).value();
    const at: string | undefined = value?.at;
    assertEquals([at, value?.of], ["1970-01-01T00:00:00.000Z", {}]);
    // @ts-expect-error A date comes back as text.
    const date: Date | undefined = value?.at;
    assertEquals(typeof date, "string");
  });
});
