import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import { z } from "zod";
import { releaseNotes } from "../../tools/release_notes.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const read = (path: string) => Deno.readTextFile(root + path);

const Workflow = z.object({
  on: z.object({ push: z.object({ tags: z.array(z.string()) }) }).strict(),
  permissions: z.record(z.string(), z.string()),
  jobs: z.record(
    z.string(),
    z.object({
      needs: z.union([z.string(), z.array(z.string())]).optional(),
      "timeout-minutes": z.number(),
      permissions: z.record(z.string(), z.string()).optional(),
      steps: z.array(z.object({ uses: z.string().optional(), run: z.string().optional() })),
    }),
  ),
});

describe(".github/workflows/release.yml", () => {
  const workflow = async () => Workflow.parse(parse(await read(".github/workflows/release.yml")));

  it("is started by the tag of a version alone", async () => {
    assertEquals((await workflow()).on.push.tags, ["v[0-9]+.[0-9]+.[0-9]+"]);
  });

  it("releases nothing before the suite has passed on the tag", async () => {
    const { jobs } = await workflow();
    const runs = jobs.verify?.steps.flatMap(({ run }) => run ?? []) ?? [];
    for (const run of [".ci/run", ".ci/run prove"]) assert(runs.includes(run), run);
    assertMatch(runs.join("\n"), /tools\/release_notes\.ts/);
    for (const [name, { needs }] of Object.entries(jobs)) {
      if (name !== "verify") assert([needs].flat().length > 0 && needs !== undefined, name);
    }
  });

  it("gives each job what it needs, and no other", async () => {
    const { permissions, jobs } = await workflow();
    assertEquals(permissions, { contents: "read" });
    const own = Object.entries(jobs).map(([name, job]) => [name, job.permissions]);
    assertEquals(Object.fromEntries(own), {
      verify: undefined,
      packages: { contents: "read", "id-token": "write" },
      image: { contents: "read", packages: "write" },
      release: { contents: "write" },
    });
  });

  it("says to npm where the source is, which it checks the provenance against", async () => {
    const text = await read(".github/workflows/release.yml");
    assertMatch(
      text,
      /REPOSITORY: \$\{\{ github\.server_url \}\}\/\$\{\{ github\.repository \}\}\.git/,
    );
    assertMatch(text, /deno task pack --out dist --repository "\$REPOSITORY"/);
  });

  it("pins the actions of others by their commits, as the other workflow does", async () => {
    const used = (text: string) => [...text.matchAll(/uses: (\S+)/g)].map(([, name]) => name);
    const release = used(await read(".github/workflows/release.yml"));
    for (const name of release) assertMatch(name ?? "", /^[\w-]+\/[\w-]+@[0-9a-f]{40}$/);
    assertEquals(new Set(release), new Set(used(await read(".github/workflows/ci.yml"))));
  });

  it("runs tasks and files that are there", async () => {
    const text = await read(".github/workflows/release.yml");
    const { tasks } = JSON.parse(await read("deno.json"));
    for (const [, task = ""] of text.matchAll(/deno task (\w+)/g)) assert(task in tasks, task);
    for (const [path] of text.matchAll(/tools\/\w+\.ts/g)) {
      assert((await Deno.stat(root + path)).isFile);
    }
  });
});

describe("releaseNotes()", () => {
  const changelog =
    "# Changelog\n\n## Unreleased\n\n## 1.2.3 – 2026-12-01\n\n- New.\n\n## 1.2.2\n\n- Old.\n";
  const versions = { cache: "1.2.3", changes: "1.2.3" };

  it("answers what the changelog says of the version", () => {
    assertEquals(releaseNotes({ tag: "v1.2.3", changelog, versions }), "- New.");
  });

  for (
    const [problem, parts, message] of [
      [
        "a package of another version",
        { versions: { ...versions, changes: "1.2.2" } },
        "changes is 1.2.2",
      ],
      [
        "a version without an entry",
        { changelog: "# Changelog\n\n## Unreleased\n" },
        "says nothing of it",
      ],
      ["a tag that is no version", { tag: "v1.2" }, "it is no version"],
    ] as const
  ) {
    it(`refuses ${problem}`, () => {
      const error = assertThrows(() =>
        releaseNotes({ tag: "v1.2.3", changelog, versions, ...parts })
      );
      assert(error instanceof Error);
      assertMatch(error.message, new RegExp(message));
    });
  }
});
