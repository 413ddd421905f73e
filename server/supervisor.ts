/**
 * Several processes of the service on one port: starts, restarts, rolls and stops them. Each drains itself
 * (`server/listener.ts`) after a signal.
 *
 * @module
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "@logtape/logtape";
import { within } from "./within.ts";
import type { WorkerMessage } from "./worker.ts";

/** First delay before a process is restarted; doubled each time that it dies young. */
const RESTART_MS = 50;
const RESTART_MS_MAX = 5_000;
/** A process that lives for this long did not die of its start. */
const YOUNG_MS = 10_000;
const READY_TIMEOUT_MS = 30_000;

/** Options of a {@linkcode Supervisor}. */
export interface SupervisorOptions {
  /** Number of processes. */
  readonly count: number;
  /** Arguments of `deno` for each. */
  readonly args: readonly string[];
  /** The folder they run in. */
  readonly cwd: string;
  /** Time that a process has to stop before it is killed. */
  readonly stopTimeoutMs: number;
  /** Logs events. */
  readonly logger: Pick<Logger, "info" | "error">;
}

/** One process of the service. */
class WorkerProcess {
  /** 0 if it could not be started. */
  readonly pid: number;
  readonly startedAtMs = performance.now();
  /** Its exit code, the signal that ended it, or the reason why it could not be started. */
  readonly exited: Promise<number | string>;
  readonly #child: ChildProcess;
  readonly #told = {
    listening: Promise.withResolvers<boolean>(),
    ready: Promise.withResolvers<boolean>(),
  };

  constructor({ args, cwd }: SupervisorOptions) {
    // Detached, so that Ctrl-C in the terminal reaches only the supervisor.
    this.#child = spawn(Deno.execPath(), [...args], {
      cwd,
      detached: true,
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    this.pid = this.#child.pid ?? 0;
    this.#child.on("message", (message: WorkerMessage) => this.#told[message].resolve(true));
    const exited = Promise.withResolvers<number | string>();
    this.#child.once("exit", (code, signal) => exited.resolve(code ?? String(signal)));
    this.#child.on("error", ({ message }) => {
      if (this.pid === 0) exited.resolve(message); // there is no exit of what did not start
    });
    this.exited = exited.promise.then((how) => {
      for (const { resolve } of Object.values(this.#told)) resolve(false);
      return how;
    });
  }

  /** Answers true if it sends that message before it ends. */
  tells(message: WorkerMessage): Promise<boolean> {
    return this.#told[message].promise;
  }

  /** Ends it, by force if necessary. Answers true if it ended by itself. */
  async stop(timeoutMs: number): Promise<boolean> {
    this.#kill("SIGTERM");
    const exit = await within(timeoutMs, this.exited, undefined);
    if (exit === undefined) this.#kill("SIGKILL");
    await this.exited;
    return exit === 0;
  }

  #kill(signal: "SIGTERM" | "SIGKILL"): void {
    if (this.pid === 0) return; // it did not start, and 0 stands for the group of this process
    try {
      // Not by `#child.kill`, after which Deno takes any end for the effect of that signal.
      Deno.kill(this.pid, signal);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error; // it has ended
    }
  }
}

/** The processes of the service. If one dies, the others continue to serve, and it is restarted. */
export class Supervisor {
  readonly #options: SupervisorOptions;
  /** By number. */
  readonly #workers: WorkerProcess[];
  readonly #stopping = new AbortController();
  readonly #stopped = once(this.#stopping.signal, "abort").then(() => false);
  #rollWaits = false;
  #rolling: Promise<void> = Promise.resolve();

  private constructor(options: SupervisorOptions, workers: WorkerProcess[]) {
    this.#options = options;
    this.#workers = workers;
    for (const place of workers.keys()) void this.#keep(place);
  }

  /**
   * Starts the processes. Answers once each listens, or with the exit code of one that ended before: then the
   * configuration or the port is wrong.
   */
  static async start(options: SupervisorOptions): Promise<Supervisor | number> {
    const started = Array.from({ length: options.count }, () => new WorkerProcess(options));
    const listening = await Promise.all(started.map((worker) => worker.tells("listening")));
    const failed = started.filter((_, at) => !listening[at]);
    const exits = await Promise.all(failed.map((worker) => worker.exited));
    // A killed process says nothing about the configuration, so it is restarted.
    const code = exits.find((exit) => typeof exit === "number");
    if (code === undefined) return new Supervisor(options, started);
    await Promise.all(started.map((worker) => worker.stop(0)));
    return code;
  }

  /**
   * Replaces the processes one after the other: starts a new one, and stops the old one once the new one is
   * ready. If it does not become ready, the old one and all later ones stay. Calls during a roll cause one more
   * roll after it.
   */
  roll(): void {
    if (this.#rollWaits) return;
    this.#rollWaits = true;
    this.#rolling = this.#rolling.then(() => this.#replaceAll());
  }

  /**
   * Stops the processes one after the other: clients of one reconnect to another, which must not close at that
   * moment. Answers true if each ended by itself.
   */
  async stop(): Promise<boolean> {
    this.#stopping.abort();
    await this.#rolling;
    let clean = true;
    for (const worker of this.#workers) {
      clean = await worker.stop(this.#options.stopTimeoutMs) && clean;
    }
    return clean;
  }

  async #replaceAll(): Promise<void> {
    const { logger, stopTimeoutMs } = this.#options;
    this.#rollWaits = false;
    if (this.#stopping.signal.aborted) return;
    logger.info("replacing {count} processes, one by one", { count: this.#workers.length });
    for (const place of this.#workers.keys()) {
      const next = new WorkerProcess(this.#options);
      const ready = Promise.race([next.tells("ready"), this.#stopped]);
      if (!await within(READY_TIMEOUT_MS, ready, false)) {
        logger.error(
          "process {pid} did not become ready: it is stopped, and the old processes stay",
          { pid: next.pid },
        );
        await next.stop(stopTimeoutMs);
        return;
      }
      const old = this.#workers[place];
      this.#workers[place] = next;
      await old?.stop(stopTimeoutMs);
    }
    logger.info("replaced all processes");
  }

  /** Keeps a process running in that place until all are stopped. */
  async #keep(place: number): Promise<void> {
    const { signal } = this.#stopping;
    for (let deaths = 0;;) {
      const worker = this.#workers[place];
      if (worker === undefined) return;
      const how = await worker.exited;
      if (signal.aborted) return;
      if (this.#workers[place] !== worker) continue; // a roll has replaced it
      if (performance.now() - worker.startedAtMs > YOUNG_MS) deaths = 0;
      const pauseMs = Math.min(RESTART_MS * 2 ** deaths++, RESTART_MS_MAX);
      const text = "process {pid} ended ({how}): another starts in {pauseMs} ms";
      this.#options.logger.error(text, { pid: worker.pid, how, pauseMs });
      await delay(pauseMs, undefined, { signal }).catch(() => undefined); // cut short by the stop
      if (signal.aborted) return;
      if (this.#workers[place] === worker) this.#workers[place] = new WorkerProcess(this.#options);
    }
  }
}
