import { assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Cache, type Jsonify } from "../../cache/mod.ts";

/** Compiles only if the two types are the same. */
function same<A, B>(_proof: [A] extends [B] ? ([B] extends [A] ? true : false) : false): void {}

interface Row {
  readonly id: number;
  readonly name: string | null;
  readonly email?: string;
}

/** Types that contain themselves. */
interface Comment {
  readonly at: Date;
  readonly answers: Comment[];
  readonly parent?: Comment;
}
interface JsonComment {
  readonly at: string;
  readonly answers: JsonComment[];
  readonly parent?: JsonComment;
}
type AnyJson = string | number | boolean | null | AnyJson[] | { [name: string]: AnyJson };
/** As an ORM declares the values of a `jsonb`. */
type OrmJson = string | number | boolean | OrmJsonObject | OrmJsonList | null;
type OrmJsonObject = { [name in string]?: OrmJson };
interface OrmJsonList extends Array<OrmJson> {}
type Dates = Date | Dates[];
type Texts = string | Texts[];

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
    same<Jsonify<[Date, undefined, ...number[]]>, [string, null, ...number[]]>(true);
  });

  it("ends in a type that contains itself", () => {
    same<Jsonify<Comment>, JsonComment>(true);
    same<Jsonify<AnyJson>, AnyJson>(true);
    same<Jsonify<OrmJson>, OrmJson>(true);
    same<Jsonify<{ at: Date; of?: OrmJson }>, { at: string; of?: OrmJson }>(true);
    same<Jsonify<Dates>, Texts>(true);
  });

  it("knows that a property may be missing", () => {
    interface Sent {
      at: Date;
      by: string | undefined;
      seen: Date | undefined;
    }
    interface Answered {
      at: string;
      by: string | undefined;
      seen: string | undefined;
    }
    same<Jsonify<Sent>, Answered>(true);
    // Tells `string` from `string | undefined`, to which it is assignable.
    same<undefined extends Jsonify<Sent>["seen"] ? true : false, true>(true);
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

describe("Lookup", () => {
  it("cannot be changed by one of the callers that share it", async () => {
    await using cache = new Cache();
    await cache.getOrLoad("a", () => Promise.resolve("Ada"));
    const read = async () => await cache.get<string>("a") as { text: string | null };
    const lookup = await read();
    assertThrows(() => lookup.text = '"Grace"', TypeError);
    assertEquals((await read()).text, '"Ada"');
  });
});
