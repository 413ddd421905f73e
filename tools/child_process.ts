/**
 * Child processes of the launchers: each ends with its parent, and only when the parent says so.
 *
 * @module
 */
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { fileURLToPath } from "node:url";

const STOP_TIMEOUT_MS = 25_000;

/** The project's folder. */
export const ROOT: string = fileURLToPath(new URL("..", import.meta.url));

/** Folder for what the development tools keep. Git ignores it. */
export const DATA_FOLDER: string = `${ROOT}.data`;

/** Sends a signal to a child that may have ended in the meantime, which is then as good. */
export function send(child: Deno.ChildProcess, signal: Deno.Signal): void {
  try {
    child.kill(signal);
  } catch (error) {
    const ended = error instanceof TypeError || error instanceof Deno.errors.NotFound;
    if (!ended) throw error;
  }
}

/** Options of {@linkcode ChildProcess.deno}. */
export interface ChildProcessOptions {
  /** Added to this process's environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** Whether what it prints is read by {@linkcode ChildProcess.firstLine}. Default: it is shown. */
  readonly readOutput?: boolean;
}

/**
 * A program of this project in a process group of its own, so that Ctrl-C in the terminal reaches the
 * parent alone and children can be stopped in order. Its standard input stays open for as long as
 * the parent lives.
 */
export class ChildProcess implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  /** How it ended. */
  readonly status: Promise<Deno.CommandStatus>;

  private constructor(child: Deno.ChildProcess) {
    this.#child = child;
    this.status = child.status;
  }

  /** Runs `deno` with `args` in the project's folder. The program must end with its standard input. */
  static deno(args: readonly string[], options: ChildProcessOptions = {}): ChildProcess {
    return new ChildProcess(
      new Deno.Command(Deno.execPath(), {
        args: [...args],
        cwd: ROOT,
        env: { ...options.env },
        stdin: "piped",
        stdout: options.readOutput ? "piped" : "inherit",
        detached: true,
      }).spawn(),
    );
  }

  /**
   * The first line it prints; what follows is dropped.
   *
   * @throws {Error} It ended without a line.
   */
  async firstLine(): Promise<string> {
    const input = Readable.fromWeb(this.#child.stdout);
    const lines = createInterface({ input, crlfDelay: Infinity });
    const line = Promise.withResolvers<string>();
    lines.once("line", line.resolve);
    lines.once("close", () => line.reject(new Error("it ended before it was ready")));
    return await line.promise;
  }

  /** Tells it to stop and waits until it has, for a while; then it is killed. */
  async [Symbol.asyncDispose](): Promise<void> {
    send(this.#child, "SIGTERM");
    const timer = setTimeout(() => send(this.#child, "SIGKILL"), STOP_TIMEOUT_MS);
    await this.status;
    clearTimeout(timer);
    await this.#child.stdin.abort();
  }
}
