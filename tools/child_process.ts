/**
 * Child processes of the launchers: each ends with its parent, or when the parent tells it to.
 *
 * @module
 */
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { fileURLToPath } from "node:url";

const STOP_TIMEOUT_MS = 25_000;

/** The project's folder. */
export const ROOT: string = fileURLToPath(new URL("..", import.meta.url));

/** Folder for files of the development tools. Git ignores it. */
export const DATA_FOLDER: string = `${ROOT}.data`;

/** Sends a signal to a child, or to a process or group by its id, which may already have ended. */
export function send(to: Deno.ChildProcess | number, signal: Deno.Signal): void {
  try {
    if (typeof to === "number") Deno.kill(to, signal);
    else to.kill(signal);
  } catch (error) {
    const ended = error instanceof TypeError || error instanceof Deno.errors.NotFound;
    if (!ended) throw error;
  }
}

/**
 * Runs a program in the project's folder. Answers true if it succeeded; it may not be installed. With a time
 * limit, its output is not shown.
 */
export async function succeeds(
  program: string,
  args: readonly string[],
  timeoutMs?: number,
): Promise<boolean> {
  const limits = timeoutMs === undefined
    ? { stderr: "inherit" } as const
    : { stderr: "null", signal: AbortSignal.timeout(timeoutMs) } as const;
  try {
    const { success } = await new Deno.Command(program, {
      args: [...args],
      cwd: ROOT,
      stdin: "null",
      stdout: "null",
      ...limits,
    }).output();
    return success;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** Options of {@linkcode ChildProcess.deno}. */
export interface ChildProcessOptions {
  /** Variables in addition to this process's environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** True if {@linkcode ChildProcess.firstLine} reads its output. Default: the output is shown. */
  readonly readOutput?: boolean;
}

/**
 * A program of this project in its own process group, so that Ctrl-C in the terminal reaches only the parent,
 * and children can be stopped in order. Its standard input stays open as long as the parent lives.
 */
export class ChildProcess implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  /** Its exit status. */
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
   * The first line of its output; the rest is dropped.
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

  /** Tells it to stop and waits for a while; then kills it. */
  async [Symbol.asyncDispose](): Promise<void> {
    send(this.#child, "SIGTERM");
    const timer = setTimeout(() => send(this.#child, "SIGKILL"), STOP_TIMEOUT_MS);
    await this.status;
    clearTimeout(timer);
    await this.#child.stdin.abort();
  }
}
