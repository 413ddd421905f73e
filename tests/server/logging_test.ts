import { assert, assertEquals, assertMatch } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { logFormatter } from "../../server/logging.ts";
import { recorded } from "../support/recorded.ts";

async function formatted(pretty: boolean, properties: Record<string, unknown>): Promise<string> {
  const [record] = await recorded((logger) => logger.info("said {text}", properties));
  assert(record !== undefined);
  return logFormatter(pretty)(record);
}

describe("logFormatter()", () => {
  it("writes one JSON object per line for machines", async () => {
    const line = await formatted(false, { text: "two\nlines", at: 5 });
    assert(line.endsWith("}\n") && line.indexOf("\n") === line.length - 1, line);
    const record = JSON.parse(line);
    assertEquals([record.level, record.logger, record.text, record.at], [
      "INFO",
      "lookaside",
      "two\nlines",
      5,
    ]);
  });

  it("writes strings without quotes into the message for machines", async () => {
    const { message } = JSON.parse(await formatted(false, { text: "it's so" }));
    assertEquals(message, "said it's so");
  });

  for (const pretty of [true, false]) {
    it(`hides the passwords of URLs, wherever they are (pretty: ${pretty})`, async () => {
      const text = "postgres://me:p4ss@host/db and redis://:p@4ss@host";
      const error = new Error("Cannot reach redis://:p4ss@host:6379");
      const line = await formatted(pretty, { text, nested: { url: text }, error });
      assert(!/p4ss|4ss/.test(line), line);
      assertMatch(line, /postgres:\/\/me:\*\*\*@host\/db/);
      assertMatch(line, /redis:\/\/:\*\*\*@host/);
    });
  }
});
