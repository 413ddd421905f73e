import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { createApi } from "./api_fixture.ts";

describe("GET /", () => {
  it("is a page of this service's own files, all of which are there", async () => {
    await using api = createApi();
    const answer = await api.send("/");
    const page = await answer.text();
    assertEquals(answer.headers.get("content-type"), "text/html; charset=utf-8");
    const links = [...page.matchAll(/\b(?:src|href)="([^"]+)"/g)].map(([, link = ""]) => link);
    assert(links.length > 5);
    const visited = new Set<string>();
    for (const link of links.filter((link) => !link.startsWith("#"))) {
      await assertServed(new URL(link, "http://service/").pathname, visited);
    }
    assert(visited.has("/dashboard/history.js"), "the imports of scripts were not followed");
    assert(visited.has("/dashboard/tutorial.js"), "the service's own part is missing");

    async function assertServed(path: string, seen: Set<string>): Promise<void> {
      if (seen.has(path)) return;
      seen.add(path);
      const { status, headers, text } = await fetchText(path);
      assertEquals([path, status], [path, 200]);
      if (!(headers.get("content-type") ?? "").startsWith("text/javascript")) return;
      for (const [, imported = ""] of text.matchAll(/^(?:import|} from) .*?"([^"]+)";$/gm)) {
        await assertServed(new URL(imported, `http://service${path}`).pathname, seen);
      }
    }

    async function fetchText(path: string) {
      const { status, headers, ...rest } = await api.send(path).then(async (response) => ({
        status: response.status,
        headers: response.headers,
        text: await response.text(),
      }));
      return { status, headers, ...rest };
    }
  });

  it("allows its own files alone, and no text to become markup or script", async () => {
    await using api = createApi();
    const answer = await api.send("/");
    assertEquals(
      answer.headers.get("content-security-policy"),
      "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; " +
        "require-trusted-types-for 'script'; trusted-types 'none'",
    );
    assertEquals(answer.headers.get("x-content-type-options"), "nosniff");
    const page = await answer.text();
    assertEquals(/<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon[a-z]+=/.exec(page)?.[0], undefined);
  });

  it("is not sent again to who holds it", async () => {
    await using api = createApi();
    const etag = (await api.send("/")).headers.get("etag") ?? "";
    const again = await api.send("/", { headers: { "if-none-match": etag } });
    assertEquals([again.status, await again.text()], [304, ""]);
  });
});

describe("GET /dashboard/:file", () => {
  it("serves what is listed and nothing else", async () => {
    await using api = createApi();
    for (const name of ["index.html", "assets.ts", "main.ts", "..%2Fmain.ts", "constructor"]) {
      assertEquals([name, (await api.send(`/dashboard/${name}`)).status], [name, 404]);
    }
  });
});
