import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { send } from "../child_process.ts";

/** A program to run, and its sign of readiness. */
export interface ServerSpec {
  /** The program. */
  readonly command: string;
  /** Its arguments. */
  readonly args: readonly string[];
  /** Environment added to this process's own, or all of it with `clearEnv`. */
  readonly env?: Readonly<Record<string, string>>;
  /** True if the child gets only `env`. */
  readonly clearEnv?: boolean;
  /** The user to run as; needs root. */
  readonly user?: { readonly uid: number; readonly gid: number };
  /** A line that a child writes once it is ready, or resolves then and gives up on `signal`. */
  readonly ready: RegExp | ((process: ServerProcess, signal: AbortSignal) => Promise<void>);
  /** Time that it has to become ready. Default 20,000. */
  readonly readyWithinMs?: number;
  /** The signal that stops the child. Default `SIGTERM`. */
  readonly stopSignal?: Deno.Signal;
  /** The working directory of the child, removed on disposal. Another user may not have access to the current one. */
  readonly ownDirectory?: string;
}

/** Limit of kept log lines of a child: enough for the report of a failed test. */
const linesMax = 5_000;

/** Longest wait for a line. */
const LINE_MS_MAX = 60_000;

/** A server in a child process, which can be stopped, killed, paused and restarted. */
export class ServerProcess implements AsyncDisposable {
  readonly #spec: ServerSpec;
  readonly #lines: string[] = [];
  readonly #watchers = new Set<(line: string) => void>();
  #child: Deno.ChildProcess | undefined;
  #reading: Promise<unknown> = Promise.resolve();
  #exit: Promise<Deno.CommandStatus> | undefined;

  /** Use {@linkcode ServerProcess.start}, which waits until the server is ready. */
  constructor(spec: ServerSpec) {
    this.#spec = spec;
  }

  /** The process id of the running child. */
  get pid(): number {
    if (!this.#child) throw new Error(`Cannot name the pid of ${this.#spec.command}: not running`);
    return this.#child.pid;
  }

  /** True if a child is running or paused. */
  get running(): boolean {
    return this.#child !== undefined;
  }

  /** The last lines the child has written, to either stream. */
  get log(): string {
    return this.#lines.join("\n");
  }

  /** Starts the child and waits until it is ready. */
  async start(): Promise<void> {
    if (this.#child) throw new Error(`Cannot start ${this.#spec.command}: it runs already`);
    const { command, args, env = {}, clearEnv = false, user, ownDirectory } = this.#spec;
    const child = new Deno.Command(command, {
      args: [...args],
      env: { ...env },
      clearEnv,
      ...user,
      ...ownDirectory === undefined ? {} : { cwd: ownDirectory },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.#child = child;
    this.#reading = Promise.all([this.#read(child.stdout), this.#read(child.stderr)]);
    this.#exit = child.status.then((status) => {
      if (this.#child === child) this.#child = undefined;
      return status;
    });
    try {
      await this.#becomeReady(this.#exit);
    } catch (cause) {
      await this.kill();
      const message = `Cannot start ${command}: ${cause instanceof Error ? cause.message : cause}`;
      throw new Error(`${message}\n${this.log}`, { cause });
    }
  }

  /** Waits for the child to end by itself, and answers its status. */
  async exited(): Promise<Deno.CommandStatus> {
    if (!this.#exit) throw new Error(`Cannot wait for ${this.#spec.command}: never started`);
    const status = await this.#exit;
    await this.#reading;
    return status;
  }

  /** Sends a signal to the running child. */
  signal(name: Deno.Signal): void {
    if (this.#child) send(this.#child, name);
  }

  /** Asks the child to stop, waits until it has, and answers its exit code. */
  async stop(): Promise<number | undefined> {
    return await this.#end(this.#spec.stopSignal ?? "SIGTERM");
  }

  /** Ends the child at once. */
  async kill(): Promise<void> {
    await this.#end("SIGKILL");
  }

  /** Stops the child if it runs, and restarts it with the same port and data. */
  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  /** Freezes the child: connections stay open and nothing answers. */
  pause(): void {
    this.signal("SIGSTOP");
  }

  /** Resumes a paused child. */
  resume(): void {
    this.signal("SIGCONT");
  }

  /** Waits for a line that matches, among those from now on. */
  async lineMatching(pattern: RegExp): Promise<string> {
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const watch = (line: string) => {
      if (pattern.test(line)) resolve(line);
    };
    this.#watchers.add(watch);
    const late = () => reject(new Error(`Cannot find ${pattern} in a minute:\n${this.log}`));
    const timer = setTimeout(late, LINE_MS_MAX);
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#watchers.delete(watch);
    }
  }

  /** Ends the child and removes its directory. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    const { ownDirectory } = this.#spec;
    if (ownDirectory) await Deno.remove(ownDirectory, { recursive: true });
  }

  async #becomeReady(exit: Promise<Deno.CommandStatus>): Promise<void> {
    const { ready, readyWithinMs = 20_000 } = this.#spec;
    const { promise: late, reject } = Promise.withResolvers<never>();
    const over = new AbortController();
    const timer = setTimeout(
      () => reject(new Error(`not ready within ${readyWithinMs} ms`)),
      readyWithinMs,
    );
    const died = exit.then((status) => {
      throw new Error(`it ended with code ${status.code}`);
    });
    const readiness = ready instanceof RegExp ? this.lineMatching(ready) : ready(this, over.signal);
    // Only one wins the race; later rejections of the others do not matter.
    for (const loser of [readiness, died]) loser.catch(() => undefined);
    try {
      await Promise.race([readiness, died, late]);
    } finally {
      over.abort();
      clearTimeout(timer);
    }
  }

  async #end(signal: Deno.Signal): Promise<number | undefined> {
    const child = this.#child;
    if (!child) {
      await this.#reading;
      return undefined;
    }
    send(child, signal);
    // A paused child receives only SIGKILL until it is resumed.
    if (signal !== "SIGKILL") send(child, "SIGCONT");
    const status = await child.status;
    this.#child = undefined;
    await this.#reading;
    return status.code;
  }

  async #read(stream: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<void> {
    const lines = createInterface({ input: Readable.fromWeb(stream), crlfDelay: Infinity });
    for await (const line of lines) {
      if (this.#lines.length >= linesMax) this.#lines.shift();
      this.#lines.push(line);
      for (const watch of this.#watchers) watch(line);
    }
  }
}

/** Starts a server. If that fails, its directory is removed too. */
export async function started<Server extends ServerProcess>(server: Server): Promise<Server> {
  try {
    await server.start();
    return server;
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
}
