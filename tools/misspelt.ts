/**
 * Finds variables that look like the service's but are not: a misspelt one would be ignored silently.
 *
 * @module
 */
import { VARIABLE_NAMES } from "../server/config.ts";

/** Prefixes of the service's variables, which other programs hardly use. */
const OURS = /^(ADMIN|CACHE|CHANGES|CLIENT_RATE|CORS|TRUST_PROXY|SHUTDOWN)_/;
/** Names shorter than this resemble too many others. */
const LENGTH_MIN = 8;
/** Limit of wrong letters. */
const DISTANCE_MAX = 2;

/** A line for each variable of `env` that probably means another one. */
export function misspelt(env: Readonly<Record<string, string | undefined>>): string[] {
  const known = new Set(VARIABLE_NAMES);
  return Object.keys(env).filter((name) => !known.has(name)).flatMap((name) => {
    const [nearest = "", distance] = VARIABLE_NAMES
      .map((each) => [each, distanceOf(name, each)] as const)
      .reduce((best, each) => each[1] < best[1] ? each : best);
    const isNear = distance <= DISTANCE_MAX && nearest.length >= LENGTH_MIN;
    if (!isNear && !OURS.test(name)) return [];
    return [`${name} is not read: there is no such variable. Did you mean ${nearest}?`];
  });
}

/** The number of letters to insert, delete or replace to turn one word into the other. */
function distanceOf(one: string, other: string): number {
  let row = Array.from({ length: other.length + 1 }, (_, at) => at);
  for (let i = 1; i <= one.length; i++) {
    const next = [i];
    for (let j = 1; j <= other.length; j++) {
      const replaced = (row[j - 1] ?? 0) + (one[i - 1] === other[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row.at(-1) ?? 0;
}
