// deno-lint-ignore-file no-console -- a command talks to its terminal

/**
 * The section of CHANGELOG.md for the version that `GITHUB_REF_NAME` tags. Exits with 1 if the tag, the packages
 * and the changelog disagree: then nothing is released.
 *
 * @module
 */
import { resolve } from "node:path";

const ROOT = resolve(import.meta.dirname ?? ".", "..");
const PACKAGES = ["cache", "changes", "adapters/drizzle", "proof/races"];

export interface ReleaseParts {
  /** The tag, `v1.2.3`. */
  readonly tag: string;
  /** The text of the changelog. */
  readonly changelog: string;
  /** The versions of the packages, by folder. */
  readonly versions: Readonly<Record<string, string>>;
}

/**
 * The lines of the changelog for the version of a tag.
 *
 * @throws {Error} A package has another version, or the changelog does not contain the version.
 */
export function releaseNotes({ tag, changelog, versions }: ReleaseParts): string {
  const version = /^v(\d+\.\d+\.\d+)$/.exec(tag)?.[1];
  if (version === undefined) throw new Error(`Cannot release ${tag}: it is no version`);
  for (const [folder, found] of Object.entries(versions)) {
    if (found !== version) throw new Error(`Cannot release ${tag}: ${folder} is ${found}`);
  }
  const sections = changelog.split(/^## /m).slice(1);
  const ours = sections.find((section) =>
    section.startsWith(version) || section.startsWith(`[${version}]`)
  );
  const notes = ours?.split("\n").slice(1).join("\n").trim();
  if (!notes) throw new Error(`Cannot release ${tag}: CHANGELOG.md says nothing of it`);
  return notes;
}

if (import.meta.main) {
  const read = (path: string) => Deno.readTextFile(resolve(ROOT, path));
  const versionOf = async (folder: string) =>
    [folder, JSON.parse(await read(`${folder}/deno.json`)).version] as const;
  try {
    console.log(releaseNotes({
      tag: Deno.env.get("GITHUB_REF_NAME") ?? "",
      changelog: await read("CHANGELOG.md"),
      versions: Object.fromEntries(await Promise.all(PACKAGES.map(versionOf))),
    }));
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    Deno.exit(1);
  }
}
