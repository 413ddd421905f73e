/**
 * What the pages say about the tree: where their links lead, which commands they name, how long the
 * README is.
 *
 * @module
 */
import { assertEquals, assertLessOrEqual } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { existsSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { projectRoot } from "../support/source_tree.ts";
import { sourceFiles } from "../../tools/source_files.ts";

const README_LINES_MAX = 150;

/** Pages as text by their paths. */
type Pages = ReadonlyMap<string, string>;

const pages = await readPages();

describe("the pages", () => {
  it("link to files and headings that exist", () => {
    assertEquals([...pages.keys()].flatMap((path) => brokenLinks(path, pages)), []);
  });

  it("name commands that exist", async () => {
    const { tasks } = JSON.parse(await Deno.readTextFile(join(projectRoot, "deno.json")));
    const unknown = [...pages].flatMap(([path, text]) =>
      commandsIn(text).filter((name) => !(name in tasks)).map((name) => `${path}: ${name}`)
    );
    assertEquals(unknown, []);
  });

  it("name files of the tree that exist", () => {
    assertEquals([...pages].flatMap(([path, text]) => missingFiles(path, text)), []);
  });

  it("are all reached from the README", () => {
    const reached = reachedFrom("README.md", pages);
    const documents = [...pages.keys()].filter((path) => path.startsWith("docs/"));
    assertEquals(documents.filter((path) => !reached.has(path)), []);
  });

  it("begin with a README that can be read in one go", () => {
    assertLessOrEqual(
      (pages.get("README.md") ?? "").trimEnd().split("\n").length,
      README_LINES_MAX,
    );
  });
});

describe("brokenLinks()", () => {
  const page = new Map([
    ["docs/a.md", "[b](../b.md) [here](#one--two) [x](x.md) [y](../b.md#no) [z]\n\n[z]: z.ts"],
    ["b.md", "# B\n"],
  ]);

  it("finds files, headings and references that are missing", () => {
    const withHeading = new Map([...page, [
      "docs/a.md",
      `${page.get("docs/a.md")}\n\n## One – two`,
    ]]);
    assertEquals(brokenLinks("docs/a.md", withHeading), [
      "docs/a.md: x.md",
      "docs/a.md: ../b.md#no",
      "docs/a.md: z.ts",
    ]);
    assertEquals(brokenLinks("docs/a.md", page)[0], "docs/a.md: #one--two");
  });

  it("does not take code for links", () => {
    assertEquals(brokenLinks("a.md", new Map([["a.md", "```ts\na[0](b)\n```\n`[a](b)`"]])), []);
  });
});

async function readPages(): Promise<Pages> {
  const paths = [...await sourceFiles(projectRoot, ".md"), "llms.txt"];
  return new Map(
    await Promise.all(
      paths.map(async (path) => [path, await Deno.readTextFile(join(projectRoot, path))] as const),
    ),
  );
}

/** The links of a page that lead nowhere; those to other hosts are taken for good. */
function brokenLinks(path: string, all: Pages): string[] {
  return linksIn(all.get(path) ?? "")
    .filter((link) => !/^[a-z]+:/.test(link) && !leadsSomewhere(path, link, all))
    .map((link) => `${path}: ${link}`);
}

function leadsSomewhere(path: string, link: string, all: Pages): boolean {
  const { target, anchor } = resolveLink(path, link);
  const text = all.get(target);
  if (text === undefined) return anchor === "" && existsSync(join(projectRoot, target));
  return anchor === "" || anchorsIn(text).has(anchor);
}

function resolveLink(path: string, link: string): { target: string; anchor: string } {
  const [file = "", anchor = ""] = link.split("#");
  return { target: file === "" ? path : join(dirname(path), file), anchor };
}

function reachedFrom(start: string, all: Pages): Set<string> {
  const reached = new Set([start]);
  for (const path of reached) {
    for (const link of linksIn(all.get(path) ?? "")) {
      const { target } = resolveLink(path, link);
      if (all.has(target)) reached.add(target);
      // A link to a folder shows its files.
      for (const page of all.keys()) {
        if (!relative(target, page).includes("/") && page.startsWith(target)) reached.add(page);
      }
    }
  }
  return reached;
}

/** Targets of inline links, images and reference definitions. */
function linksIn(text: string): string[] {
  const prose = withoutCode(text);
  return [...prose.matchAll(/\]\(([^\s)]+)\)|^\[[^\]]+\]: (\S+)$/gm)]
    .map(([, inline, reference]) => inline ?? reference ?? "");
}

/** Files that a page names in its prose; a line that is nothing but a name heads a file to be made. */
function missingFiles(path: string, text: string): string[] {
  const prose = text.replaceAll(/^ *```[\s\S]*?^ *```$/gm, "").replaceAll(/^`[^`\n]+`$/gm, "");
  return [...prose.matchAll(/`([a-z]+\/[\w./-]+)`/g)].map(([, name = ""]) => name)
    .filter((name) => existsSync(join(projectRoot, name.split("/")[0] ?? "")))
    .filter((name) => !existsSync(join(projectRoot, name)))
    .map((name) => `${path}: ${name}`);
}

/** The anchors that GitHub makes of headings. */
function anchorsIn(text: string): Set<string> {
  const seen = new Map<string, number>();
  return new Set(
    [...text.replaceAll(/^```[\s\S]*?^```$/gm, "").matchAll(/^#{1,6} (.+)$/gm)].map(
      ([, title = ""]) => {
        const slug = title.toLowerCase().replaceAll(/[^\p{L}\p{N}_ -]/gu, "").replaceAll(" ", "-");
        const count = seen.get(slug) ?? 0;
        seen.set(slug, count + 1);
        return count === 0 ? slug : `${slug}-${count}`;
      },
    ),
  );
}

function withoutCode(text: string): string {
  return text.replaceAll(/^ *```[\s\S]*?^ *```$/gm, "").replaceAll(/`[^`\n]*`/g, "");
}

/** The names after `deno task` in a page, code included. */
function commandsIn(text: string): string[] {
  return [...text.matchAll(/deno(?:@[\d.]+)? task\s+([a-z][a-z:]*)/g)].map(([, name = ""]) => name);
}
