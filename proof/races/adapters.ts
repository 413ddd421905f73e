import type { RaceAdapter } from "./adapter.ts";

/** The libraries, by their names on the command line. */
const KNOWN: Readonly<Record<string, () => Promise<{ readonly adapter: RaceAdapter }>>> = {
  recipe: () => import("./adapters/recipe.ts"),
  bentocache: () => import("./adapters/bentocache.ts"),
  cacheable: () => import("./adapters/cacheable.ts"),
  "layered-loader": () => import("./adapters/layered_loader.ts"),
  drizzle: () => import("./adapters/drizzle.ts"),
  lookaside: () => import("./adapters/lookaside.ts"),
};

/** An argument of the command is invalid. */
export class MisuseError extends Error {}

/** The names of all libraries. */
export const libraries: readonly string[] = Object.keys(KNOWN);

/** Imports the adapters of some libraries, without the packages of others. */
export async function adaptersOf(names: readonly string[]): Promise<RaceAdapter[]> {
  return await Promise.all(names.map(async (name) => {
    const found = await KNOWN[name]?.();
    if (found === undefined) throw new MisuseError(`Cannot race ${name}: there is no such library`);
    return found.adapter;
  }));
}
