import { assertEquals, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { createApi } from "./api_fixture.ts";
import { BREAK_IT, breakItIn } from "../../server/break_it.ts";
import { startService } from "../../tools/servers/service.ts";
import { requiredEnv } from "../support/test_database.ts";

const ROUTES = [
  ["GET", "/break-it/panel.js"],
  ["GET", "/break-it/panel.css"],
  ["GET", "/break-it/state"],
  ["POST", "/break-it/start"],
  ["POST", "/break-it/stop-redis"],
] as const;

describe("the routes of the panel of deno task dev", () => {
  it("pass requests on where that program has told its address", async () => {
    const passed: string[] = [];
    await using api = createApi({
      breakIt(name, method) {
        passed.push(`${method} /break-it/${name}`);
        return Promise.resolve(new Response("it", { headers: { "content-type": "text/x" } }));
      },
    });
    assertStringIncludes(await (await api.send("/")).text(), "/break-it/panel.js");
    for (const [method, path] of ROUTES) {
      const response = await api.send(path, { method });
      assertEquals([await response.text(), response.headers.get("content-type")], ["it", "text/x"]);
      assertEquals(response.headers.get("cache-control"), "no-store");
    }
    assertEquals(passed, ROUTES.map((each) => each.join(" ")));
  });

  it("ask for the token before they tell or do anything", async () => {
    const passed: string[] = [];
    await using api = createApi({
      access: { adminTokens: ["secret"], open: "off" },
      breakIt: (name) => Promise.resolve(new Response(String(passed.push(name)))),
    });
    for (const [method, path] of ROUTES.slice(2)) {
      const response = await api.send(path, { method });
      await response.body?.cancel();
      assertEquals(response.status, 401);
    }
    assertEquals(passed, []);
  });

  it("answer 503 while that program is not up", async () => {
    const passOn = breakItIn([`${BREAK_IT}http://127.0.0.1:1/secret/`]);
    const response = await passOn?.("state", "GET");
    assertEquals([response?.status, await response?.json()], [503, {
      error: "The panel is not up yet",
    }]);
  });

  it("are not there without: as deno task start runs the service", async () => {
    assertEquals(breakItIn(["--with-parent=1"]), undefined);
    const env = { DATABASE_URL: requiredEnv("DATABASE_URL"), REDIS_URL: "memory:" };
    await using service = await startService({ env, readyPath: "/healthz" });
    assertEquals((await (await service.fetch("/")).text()).includes("break-it"), false);
    for (const [method, path] of ROUTES) {
      const response = await service.fetch(path, { method });
      await response.body?.cancel();
      assertEquals(response.status, 404, path);
    }
  });

  it("are named by no other program than deno task dev", async () => {
    const launchers = ["tools/start.ts", "tools/compile.ts", "server/supervisor.ts", "Dockerfile"];
    for (const path of launchers) {
      const text = await Deno.readTextFile(new URL(`../../${path}`, import.meta.url));
      assertEquals(/break.?it/i.test(text), false, path);
    }
  });
});
