import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import {
  cannotSave,
  isOutOfMemory,
  isReadOnly,
  refuses,
} from "../../../cache/redis/reply_errors.ts";

function reply(message: string): Error {
  return Object.assign(new Error(message), { name: "ReplyError" });
}

/** As Redis 6.2 wraps what a command in a script answers. */
function inScript(message: string): string {
  return `ERR Error running script (call to f_00ddb0c1a8): @user_script:1: @user_script: 1: ${message}`;
}

describe("refuses()", () => {
  const told: Readonly<Record<string, string>> = {
    "6.2, of rights": inScript(
      "The user executing the script can't run this command or subcommand",
    ),
    "6.2, of a renamed command": inScript("Unknown Redis command called from Lua script"),
    "6.2, of too few replicas": inScript("-NOREPLICAS Not enough good replicas to write."),
    "7.0, of rights":
      "ERR The user executing the script can't run this command or subcommand script: 00",
    "7.0, of a renamed command": "ERR Unknown Redis command called from script script: 00ddb0c1a8",
    "7.4, of rights":
      "ERR ACL failure in script: User a has no permissions to run the 'set' command",
    "any, of a command that it lacks": "ERR unknown command 'GET', with args beginning with: 'x' ",
  };
  for (const [name, message] of Object.entries(told)) {
    it(`knows what Redis ${name}, says`, () => assert(refuses(reply(message))));
  }
  it("is not so where a value or an argument is wrong", () => {
    for (const message of ["WRONGTYPE Operation", "ERR syntax error", "OOM command not allowed"]) {
      assertEquals([refuses(reply(message)), refuses(reply(inScript(message)))], [false, false]);
    }
    assertEquals(refuses(new Error("NOPERM by the client's own words")), false);
  });
});

describe("An error that a script meets in Redis 6.2", () => {
  it("is known as without a script", () => {
    assert(
      isOutOfMemory(reply(inScript("-OOM command not allowed when used memory > 'maxmemory'."))),
    );
    assert(isReadOnly(reply(inScript("-READONLY You can't write against a read only replica."))));
    assert(cannotSave(reply(inScript("-MISCONF Redis is configured to save RDB snapshots"))));
  });
});
