// deno-lint-ignore-file no-console -- a command talks to its terminal

/**
 * `deno task soak --minutes 30 --seed 1`: do memory and open files stay constant while a fault occurs every 20
 * seconds? Prints the curve and a verdict. Exits with 1 if it is bad.
 *
 * @module
 */
import { misused, readOptions } from "../../tools/command_line.ts";
import { type Size, soak } from "./soak.ts";

const MEBIBYTE = 1_048_576;

const COMMAND = {
  name: "deno task soak",
  help: `deno task soak [--minutes NUMBER] [--seed NUMBER]

Injects a fault every 20 seconds, and checks that memory and open files do not grow. Exits with 1 if they do.

  --minutes NUMBER  how long, up to a day (30)
  --seed NUMBER     repeat the faults of an earlier run`,
  options: {
    minutes: { type: "string", default: "30" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
  },
} as const;

const values = readOptions(COMMAND);
const minutes = Number(values.minutes);
if (!(minutes > 0 && minutes <= 24 * 60)) {
  misused(COMMAND, "Cannot soak: --minutes takes a number up to a day");
}
const seed = Number(values.seed);
if (!Number.isInteger(seed)) misused(COMMAND, "Cannot soak: --seed takes a whole number");
console.log("| minute | RSS MiB | live heap MiB | files | fault |");
console.log("| -----: | ------: | ------------: | ----: | ----- |");
const report = await soak({
  durationMs: minutes * 60_000,
  seed,
  onFault: (name, size) => console.log(line(size, name)),
});
const last = report.sizes.at(-1);
if (last !== undefined) console.log(line(last, ""));
console.log(`\nseed ${report.seed}; two instances together`);
for (const { figure, mean, perHour, growth, flat } of report.trends) {
  const shown = (value: number) => figure === "files" ? value.toFixed(1) : mebibytes(value);
  const verdict = flat ? "flat" : "GROWS";
  console.log(
    `${figure}: mean ${shown(mean)}, ${shown(perHour)} per hour, ${
      shown(growth)
    } over the run: ${verdict}`,
  );
}
console.log(`${report.requests} requests, ${report.unexcused} failed without an excuse`);
console.log(`${report.staleReads} stale reads, ${report.lostWrites} acknowledged writes lost`);
const kept = report.trends.every(({ flat }) => flat) && report.unexcused === 0 &&
  report.staleReads === 0 && report.lostWrites === 0;
console.log(kept ? "\nheld" : "\nNOT HELD");
Deno.exit(kept ? 0 : 1);

function line({ atMs, rssBytes, liveHeapBytes, files }: Size, fault: string): string {
  const cells = [
    (atMs / 60_000).toFixed(1),
    mebibytes(rssBytes),
    mebibytes(liveHeapBytes),
    files,
    fault,
  ];
  return `| ${cells.join(" | ")} |`;
}

function mebibytes(bytes: number): string {
  return (bytes / MEBIBYTE).toFixed(1);
}
