// deno-lint-ignore-file no-console -- a command talks to its terminal

/**
 * What CHANGELOG.md says of the version that `GITHUB_REF_NAME` tags. Ends with 1 where the tag, the packages
 * and the changelog do not agree on it: nothing is released then.
 *
 * @module
 */
import { resolve } from "node:path";

const ROOT = resolve(import.meta.dirname ?? ".", "..");
const PACKAGES = ["cache", "changes", "adapters/drizzle", "proof/races"];

/** What a release is made of. */
export interface ReleaseParts {
  /** The tag, `v1.2.3`. */
  readonly tag: string;
  /** The text of the changelog. */
  readonly changelog: string;
  /** The versions of the packages, by folder. */
  readonly versions: Readonly<Record<string, string>>;
}

/**
 * The lines of the changelog under the version of a tag.
 *
 * @throws {Error} A package has another version, or the changelog does not know the version.
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
