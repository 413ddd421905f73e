/**
 * Several processes of the service on one port: started, restarted, rolled and drained.
 *
 * @module
 */
import { type ChildProcess as NodeProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "@logtape/logtape";
import { DRAIN, type WorkerMessage } from "./worker.ts";
import { type ListenAddress, Steering } from "./steering.ts";

/** First pause before a process that died is started again, doubled for each that dies young. */
const RESTART_MS = 50;
const RESTART_MS_MAX = 5_000;
/** A process that lived for so long did not die of its start. */
const YOUNG_MS = 10_000;
/** How long a drained process goes on, for its clients to be told to connect anew. */
const SETTLE_MS = 500;
/** How long a process may take to answer a question of its supervisor. */
const ANSWER_MS = 1_000;
const READY_TIMEOUT_MS = 30_000;

/** Options of {@linkcode Workers}. */
export interface WorkersOptions extends ListenAddress {
  /** How many processes there are. */
  readonly count: number;
  /** Arguments of `deno` that run one. */
  readonly args: readonly string[];
  /** The folder they run in. */
  readonly cwd: string;
  /** How long one may take to stop before it is killed. */
  readonly stopTimeoutMs: number;
  /** How long one may take to be ready before a roll is given up. Default 30,000. */
  readonly readyTimeoutMs?: number;
  /** Whether to keep new connections from a process that is to end. Default: where it can be done. */
  readonly steer?: boolean;
  /** Told what happens. */
  readonly logger: Pick<Logger, "info" | "warn" | "error">;
}

/** How a process ended. */
interface Exit {
  readonly code: number | null;
  readonly signal: string | null;
}

/** One process of the service. */
class WorkerProcess {
  readonly pid: number;
  readonly startedAtMs: number = performance.now();
  readonly exited: Promise<Exit>;
  readonly #told = new Map<WorkerMessage, PromiseWithResolvers<boolean>>();
  readonly #child: NodeProcess;
  /** Whether it has ended. */
  ended = false;
  /** Whether connections may reach it. */
  listening = false;
  /** Whether it was told to end. */
  stopping = false;

  constructor({ args, cwd }: WorkersOptions) {
    // Detached, so that Ctrl-C in the terminal reaches the supervisor alone.
    this.#child = spawn(Deno.execPath(), [...args], {
      cwd,
      detached: true,
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    this.pid = this.#child.pid ?? 0;
    this.exited = once(this.#child, "exit").then(([code, signal]) => {
      this.ended = true;
      for (const { resolve } of this.#told.values()) resolve(false);
      return { code, signal };
    });
    this.#child.on("message", (message: WorkerMessage) => {
      if (message === "listening") this.listening = true;
      this.#heard(message).resolve(true);
    });
    // That it cannot be told anything is seen when it ends.
    this.#child.on("error", () => {});
  }

  /** Whether it tells that before it ends and before `timeoutMs` are over. */
  async tells(message: WorkerMessage, timeoutMs?: number): Promise<boolean> {
    if (this.ended) return false;
    const heard = this.#heard(message).promise;
    return timeoutMs === undefined ? await heard : await within(timeoutMs, heard) ?? false;
  }

  drain(): void {
    if (!this.ended) this.#child.send(DRAIN, () => {});
  }

  kill(signal: "SIGTERM" | "SIGKILL"): void {
    this.stopping = true;
    if (this.ended) return;
    try {
      // Not by `#child.kill`, after which Deno takes any end for one by that signal.
      Deno.kill(this.pid, signal);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error; // it is as good as ended
    }
  }

  #heard(message: WorkerMessage): PromiseWithResolvers<boolean> {
    const known = this.#told.get(message) ?? Promise.withResolvers<boolean>();
    this.#told.set(message, known);
    return known;
  }
}

/**
 * The processes of the service. Each dies alone: the others go on serving, and it is started again.
 */
export class Workers {
  readonly #options: WorkersOptions;
  readonly #logger: WorkersOptions["logger"];
  readonly #steering: Steering | undefined;
  /** By number. The one in place is the one that is started again. */
  readonly #places: WorkerProcess[] = [];
  readonly #stopping = new AbortController();
  readonly #stopped: Promise<false> = once(this.#stopping.signal, "abort").then(() => false);
  readonly #keeping: Promise<void>[] = [];
  /** Drains and rolls, one after the other. */
  #turn: Promise<void> = Promise.resolve();
  #rollsWaiting = 0;

  private constructor(options: WorkersOptions) {
    this.#options = options;
    this.#logger = options.logger;
    this.#steering = options.steer === false ? undefined : Steering.open(options);
  }

  /**
   * Starts the processes. Answers once each listens, or with the exit code of one that ended before it
   * did: what is wrong at the start is wrong with the configuration or the port.
   */
  static async start(options: WorkersOptions): Promise<Workers | number> {
    const workers = new Workers(options);
    const started = Array.from({ length: options.count }, () => new WorkerProcess(options));
    const listening = await Promise.all(started.map((worker) => worker.tells("listening")));
    const failed = started.find((_, at) => !listening[at]);
    if (failed !== undefined) {
      for (const worker of started) worker.kill("SIGKILL");
      await Promise.all(started.map((worker) => worker.exited));
      workers.#steering?.[Symbol.dispose]();
      return (await failed.exited).code ?? 1;
    }
    workers.#places.push(...started);
    workers.#keeping.push(...started.map((_, place) => workers.#keep(place)));
    return workers;
  }

  /** The ids of the processes, by number. */
  get pids(): number[] {
    return this.#places.map(({ pid }) => pid);
  }

  /**
   * Replaces the processes one after the other: a new one is started, and when it is ready the old one
   * is drained. If one does not become ready, the old one and those after it stay. Calls that come
   * while one waits for its turn are one. Never rejects.
   */
  async roll(): Promise<void> {
    if (this.#rollsWaiting > 0 || this.#stopping.signal.aborted) return;
    this.#rollsWaiting++;
    await this.#inTurn(async () => {
      this.#rollsWaiting--;
      this.#logger.info("rolling {count} processes", { count: this.#places.length });
      for (const place of this.#places.keys()) {
        if (!await this.#replace(place)) return;
      }
      this.#logger.info("rolled");
    });
  }

  /** Drains the processes one after the other. Answers whether each ended by itself. */
  async stop(): Promise<boolean> {
    this.#stopping.abort();
    let clean = true;
    await this.#inTurn(async () => {
      for (const worker of this.#places) clean = await this.#end(worker) && clean;
    });
    await Promise.all(this.#keeping);
    this.#steering?.[Symbol.dispose]();
    return clean;
  }

  async #inTurn(work: () => Promise<void>): Promise<void> {
    const before = this.#turn;
    const done = before.then(work);
    this.#turn = done;
    await done;
  }

  /** Has a process in that place until all are stopped. */
  async #keep(place: number): Promise<void> {
    const { signal } = this.#stopping;
    for (let deaths = 0;;) {
      const worker = this.#places[place];
      if (worker === undefined) return;
      const { code, signal: killedBy } = await worker.exited;
      if (signal.aborted) return;
      if (this.#places[place] !== worker) { // a roll has put another in its place
        deaths = 0;
        continue;
      }
      if (performance.now() - worker.startedAtMs > YOUNG_MS) deaths = 0;
      const pauseMs = Math.min(RESTART_MS * 2 ** deaths++, RESTART_MS_MAX);
      this.#logger.error("process {pid} ended ({how}): another starts in {pauseMs} ms", {
        pid: worker.pid,
        how: killedBy ?? `code ${code}`,
        pauseMs,
      });
      // Cut short by the stop, which is looked at next.
      await delay(pauseMs, undefined, { signal }).catch(() => undefined);
      if (signal.aborted) return;
      // Unless a roll was quicker.
      if (this.#places[place] === worker) this.#places[place] = new WorkerProcess(this.#options);
    }
  }

  /** Answers whether the process in that place was replaced. */
  async #replace(place: number): Promise<boolean> {
    const { readyTimeoutMs = READY_TIMEOUT_MS } = this.#options;
    if (this.#stopping.signal.aborted) return false;
    const next = new WorkerProcess(this.#options);
    if (!await Promise.race([next.tells("ready", readyTimeoutMs), this.#stopped])) {
      if (!this.#stopping.signal.aborted) {
        this.#logger.error("process {pid} is not ready: the roll is given up", { pid: next.pid });
      }
      await this.#terminate(next);
      return false;
    }
    const old = this.#places[place];
    this.#places[place] = next;
    if (old !== undefined) await this.#end(old, next);
    return true;
  }

  /** Lets a process answer what it has been sent, sends it nothing more, and ends it. */
  async #end(worker: WorkerProcess, ...others: readonly WorkerProcess[]): Promise<boolean> {
    worker.stopping = true;
    const serving = [...new Set([...this.#places, ...others])]
      .filter((each) => each !== worker && each.listening && !each.stopping && !each.ended);
    const heir = serving[0];
    if (heir === undefined || worker.ended) return await this.#terminate(worker);
    worker.drain();
    if (!await worker.tells("draining", ANSWER_MS)) return await this.#terminate(worker);
    const steered = await this.#steerAway(heir, serving.length + 1);
    await Promise.race([delay(SETTLE_MS), worker.exited]);
    const clean = await this.#terminate(worker);
    if (steered) this.#steerBack(serving);
    return clean;
  }

  async #terminate(worker: WorkerProcess): Promise<boolean> {
    worker.kill("SIGTERM");
    const exit = await within(this.#options.stopTimeoutMs, worker.exited);
    if (exit !== undefined) return exit.code === 0;
    this.#logger.error("process {pid} did not stop in time: killed", { pid: worker.pid });
    worker.kill("SIGKILL");
    await worker.exited;
    return false;
  }

  async #steerAway(heir: WorkerProcess, count: number): Promise<boolean> {
    const listeners = { pid: heir.pid, count };
    try {
      const steered = await this.#steering?.away(listeners, () => asksToClose(this.#options));
      if (steered) return true;
      this.#logger.warn("Cannot steer connections away: a few may be reset");
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.#logger.warn("{reason}: a few may be reset", { reason });
    }
    return false;
  }

  #steerBack(serving: readonly WorkerProcess[]): void {
    const pid = serving.find(({ ended }) => !ended)?.pid;
    if (pid === undefined) return; // the program goes with the last listener
    try {
      this.#steering?.back(pid);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.#logger.warn("{reason}: connections may be spread unevenly", { reason });
    }
  }
}

/** Whether the process that a new connection gets is the one that drains. */
async function asksToClose({ hostname, port }: ListenAddress): Promise<boolean> {
  using connection = await Deno.connect({ hostname, port });
  const timer = setTimeout(() => connection.close(), ANSWER_MS);
  try {
    await connection.write(
      new TextEncoder().encode("GET /healthz HTTP/1.1\r\nhost: local\r\n\r\n"),
    );
    const decoder = new TextDecoder();
    const buffer = new Uint8Array(4_096);
    let head = "";
    while (!head.includes("\r\n\r\n")) {
      const size = await connection.read(buffer);
      if (size === null) break;
      head += decoder.decode(buffer.subarray(0, size), { stream: true });
    }
    return /^connection: close\r$/im.test(head);
  } finally {
    clearTimeout(timer);
  }
}

/** What `work` answers, if it does in time. */
async function within<T>(timeoutMs: number, work: Promise<T>): Promise<T | undefined> {
  const late = Promise.withResolvers<undefined>();
  const timer = setTimeout(() => late.resolve(undefined), timeoutMs);
  try {
    return await Promise.race([work, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
