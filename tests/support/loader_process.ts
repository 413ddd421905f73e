/**
 * An instance of the cache in a process of its own, driven over stdin and stdout by JSON lines.
 *
 * As a program it takes the cache's options as JSON in its first argument and where loads are counted,
 * a {@linkcode Counter}, in its second. As a module it starts that program.
 *
 * @module
 */
import { Redis } from "ioredis";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { Cache, type CacheOptions } from "../../cache/mod.ts";

/** Where loads are counted. */
export interface Counter {
  /** The URL of a Redis server. */
  readonly url: string;
  /** The key. */
  readonly key: string;
}

/** One command: read a key with so many callers at once, by a load that takes a while. */
export interface ReadCommand {
  /** The logical key. */
  readonly key: string;
  /** How many callers ask at once. */
  readonly callers: number;
  /** How long a load takes. */
  readonly loadMs: number;
}

/** What a process says: that a load began, and how its callers fared. */
type Report =
  | { readonly type: "ready" | "loading" }
  | { readonly type: "read"; readonly outcome: ReadOutcome };

/** How the callers of one command fared. */
export interface ReadOutcome {
  /** The values they got, each once. */
  readonly values: readonly string[];
  /** How many got one. */
  readonly answered: number;
  /** Why others did not. */
  readonly errors: readonly string[];
  /** From the command to the last answer. */
  readonly durationMs: number;
}

/** A process that {@linkcode startLoaderProcess} started. */
export class LoaderProcess implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #stdin: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reports: AsyncIterator<string>;

  /** Use {@linkcode startLoaderProcess}. */
  constructor(child: Deno.ChildProcess) {
    this.#child = child;
    this.#stdin = child.stdin.getWriter();
    const input = Readable.fromWeb(child.stdout);
    this.#reports = createInterface({ input })[Symbol.asyncIterator]();
  }

  /** Sends a command. Its outcome comes later: {@linkcode LoaderProcess.outcome}. */
  async send(command: ReadCommand): Promise<void> {
    await this.#stdin.write(new TextEncoder().encode(`${JSON.stringify(command)}\n`));
  }

  /** Waits until the process is connected, and its memory coherent. */
  async ready(): Promise<void> {
    await this.#next("ready");
  }

  /** Waits until a load has begun. */
  async loading(): Promise<void> {
    await this.#next("loading");
  }

  /** Waits for the outcome of the next command that was sent. */
  async outcome(): Promise<ReadOutcome> {
    const report = await this.#next("read");
    if (report.type !== "read") throw new Error("Cannot read the outcome: another report");
    return report.outcome;
  }

  /** Ends the process at once, as a crash does. */
  async kill(): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // it has ended already
    }
    await this.#child.status;
  }

  /** Ends the process and waits until nothing of it is left. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    await this.#stdin.abort().catch(() => undefined); // the other end is gone
    while (!(await this.#reports.next()).done);
  }

  async #next(type: Report["type"]): Promise<Report> {
    for (;;) {
      const { value, done } = await this.#reports.next();
      if (done) throw new Error(`Cannot read a ${type} report: the process ended`);
      const report: Report = JSON.parse(value);
      if (report.type === type) return report;
    }
  }
}

/** Starts an instance in a process of its own, which counts its loads. */
export async function startLoaderProcess(
  options: CacheOptions,
  counter: Counter,
): Promise<LoaderProcess> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "-A",
      "--quiet",
      import.meta.filename ?? "",
      JSON.stringify(options),
      JSON.stringify(counter),
    ],
    stdin: "piped",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const started = new LoaderProcess(child);
  await started.ready();
  return started;
}

function report(line: Report): void {
  const bytes = new TextEncoder().encode(`${JSON.stringify(line)}\n`);
  for (let sent = 0; sent < bytes.length;) sent += Deno.stdout.writeSync(bytes.subarray(sent));
}

async function read(
  cache: Cache,
  count: () => Promise<number>,
  command: ReadCommand,
): Promise<ReadOutcome> {
  const startedAtMs = performance.now();
  const load = async () => {
    const nth = await count();
    report({ type: "loading" });
    await delay(command.loadMs);
    return `load ${nth}`;
  };
  const settled = await Promise.allSettled(
    Array.from({ length: command.callers }, () => cache.getOrLoad(command.key, load)),
  );
  const values = new Set<string>();
  const errors = new Set<string>();
  let answered = 0;
  for (const one of settled) {
    if (one.status === "rejected") {
      errors.add(String(one.reason));
      continue;
    }
    answered++;
    values.add(String(one.value.value()));
  }
  const durationMs = performance.now() - startedAtMs;
  return { values: [...values], answered, errors: [...errors], durationMs };
}

async function main(): Promise<void> {
  const options: CacheOptions = JSON.parse(Deno.args[0] ?? "{}");
  const { url, key }: Counter = JSON.parse(Deno.args[1] ?? "{}");
  const coherent = Promise.withResolvers<void>();
  const caughtUp = Promise.withResolvers<void>();
  // A server that stands alone is read at once.
  if (!/-(sentinel|cluster):/.test(options.url ?? "")) caughtUp.resolve();
  const cache = new Cache({
    ...options,
    onEvent: (event) => {
      if (event.type === "coherent" && event.coherent) coherent.resolve();
      if (event.type === "caught-up") caughtUp.resolve();
    },
  });
  const counter = new Redis(url);
  const count = () => counter.incr(key);
  await Promise.all([coherent.promise, caughtUp.promise]);
  report({ type: "ready" });
  for await (const line of createInterface({ input: Readable.fromWeb(Deno.stdin.readable) })) {
    const command: ReadCommand = JSON.parse(line);
    report({ type: "read", outcome: await read(cache, count, command) });
  }
  counter.disconnect();
  await cache.close();
}

if (import.meta.main) await main();
