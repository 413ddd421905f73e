// deno-lint-ignore-file no-console -- a command talks to its terminal
/** `deno run proof/model/larger.ts`: searches the configurations that are too large for every run. */
import { LARGER } from "./configurations.ts";
import { lookaside } from "./lookaside.ts";
import { search } from "./search.ts";

for (const how of LARGER) {
  const { states, transitions, violation } = search(lookaside(how), 40_000_000);
  console.log(`${how.name}: ${states} states, ${transitions} transitions`);
  if (violation === undefined) continue;
  console.log([violation.reason, ...violation.trace].join("\n"));
  Deno.exit(1);
}
