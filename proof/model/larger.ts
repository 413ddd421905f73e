// deno-lint-ignore-file no-console -- a command talks to its terminal
/** `deno run proof/model/larger.ts`: searches the configurations that are too large for every run. */
import { LARGER } from "./configurations.ts";
import { lookaside } from "./lookaside.ts";
import { relaying } from "./relaying.ts";
import { type Model, search } from "./search.ts";

const MODELS: readonly (readonly [string, Model])[] = [
  [
    "relaying, three writers and a relay that may be late, and fail",
    relaying({ relays: 1, marks: false, time: true }),
  ],
  [
    "relaying, two relays that promise, and may die",
    relaying({ relays: 2, marks: false, writers: 2, time: true }),
  ],
  ...LARGER.map((how) => [how.name, lookaside(how)] as const),
];

for (const [name, model] of MODELS) {
  const { states, transitions, violation } = search(model, 40_000_000);
  console.log(`${name}: ${states} states, ${transitions} transitions`);
  if (violation === undefined) continue;
  console.log([violation.reason, ...violation.trace].join("\n"));
  Deno.exit(1);
}
