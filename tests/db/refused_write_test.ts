import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { type Refusal, RefusedWriteError, toldOfWrite } from "../../db/refused_write.ts";

describe("toldOfWrite()", () => {
  const sides: readonly (readonly [refusal: Refusal, detail: string])[] = [
    ["refers to nothing", "Key (parent, org)=(9, 1) is not present in table “tree”."],
    ["refers to nothing", "Schlüssel (parent, org)=(9, 1) ist nicht in Tabelle »tree« vorhanden."],
    ["referred to", "Key (id, org)=(1, 1) is still referenced from table “tree”."],
    ["referred to", "Key (id, org)=(1, 1) is referenced from table “tree”."],
    ["referred to", "Auf Schlüssel (id, org)=(1, 1) wird noch aus Tabelle »tree« verwiesen."],
  ];
  for (const [refusal, detail] of sides) {
    it(`knows in any language the side of a reference within a table: ${detail}`, () => {
      const constraint = "tree_parent_org_fkey";
      const error = Object.assign(new Error(), { code: "23503", constraint, detail });
      const told = toldOfWrite(
        error,
        (name) => name === constraint ? ["parent", "org"] : undefined,
      );
      assertEquals(told instanceof RefusedWriteError && told.refusal, refusal);
    });
  }
});
