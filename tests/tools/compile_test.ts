import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { parseConfig } from "../../server/config.ts";
import { compileArgs } from "../../tools/compile.ts";
import { permissionFlags } from "../../tools/permissions.ts";

const config = parseConfig({
  REDIS_URL: "redis://cache.internal:6379",
  DATABASE_URL: "postgres://db.internal:5432/app",
});

describe("compileArgs()", () => {
  it("bakes in what `deno task start` permits", () => {
    const args = compileArgs(config, { output: "lookaside", anyHost: false });
    for (const flag of permissionFlags(config)) assert(args.includes(flag), flag);
    assertEquals(args.filter((arg) => arg.startsWith("--allow-")).length, 2);
  });

  it("leaves nothing but the addresses open for a binary that is configured where it runs", () => {
    const shut = compileArgs(config, { output: "lookaside", anyHost: false });
    const open = compileArgs(config, { output: "lookaside", anyHost: true });
    const changed = open.filter((arg) => !shut.includes(arg));
    assertEquals(changed, ["--allow-net"]);
  });
});
