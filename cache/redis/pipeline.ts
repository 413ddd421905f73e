import { Breaker, BreakerOpenError, type BreakerState } from "./breaker.ts";
import type { Connection } from "./connection.ts";
import { Deadlines } from "./deadlines.ts";
import { isReply, isUnknownScript, isWrongType, refusesAll } from "./reply_errors.ts";
import type { Runtime } from "../runtime.ts";

/** Options of a {@linkcode Pipeline}. */
export interface PipelineOptions {
  /** Time and chance. */
  readonly runtime: Runtime;
  /** How long a command may take. */
  readonly commandTimeoutMs: number;
  /** A key to read when it is time to find out whether the servers answer again. */
  readonly probeKey: string;
  /** Called when a command fails. */
  readonly onError: (command: string, error: unknown) => void;
  /** Called when the breaker changes its state. */
  readonly onBreaker: (state: BreakerState) => void;
}

/** Sends commands to the servers of a connection: each within its time, and behind a circuit breaker. */
export class Pipeline {
  readonly #connection: Connection;
  readonly #options: PipelineOptions;
  readonly #breaker: Breaker;
  readonly #deadlines: Deadlines;

  constructor(connection: Connection, options: PipelineOptions) {
    this.#connection = connection;
    this.#options = options;
    this.#deadlines = new Deadlines(options.runtime.clock, options.commandTimeoutMs);
    this.#breaker = new Breaker(options.runtime, {
      onChange: (state) => {
        // Commands under way would wait for the same server: they have waited long enough.
        if (state === "open") this.#deadlines.expireAll();
        options.onBreaker(state);
      },
    });
  }

  /** Runs one command. `command` names it in errors. */
  send<T>(command: string, run: () => Promise<T>): Promise<T> {
    if (this.#breaker.state === "closed") return this.#within(command, run);
    this.#probe();
    const message = `Cannot ${command}: the circuit breaker is open`;
    return Promise.reject(new BreakerOpenError(message));
  }

  /** Bounds nothing any more: the connection ends, and every command with it. */
  close(): void {
    this.#deadlines.close();
  }

  async #within<T>(command: string, run: () => Promise<T>): Promise<T> {
    try {
      const reply = await this.#deadlines.run(run());
      this.#breaker.succeed();
      return reply;
    } catch (error) {
      // An error that Redis answered is a sign of life.
      if (isReply(error) && !refusesAll(error)) this.#breaker.succeed();
      else this.#breaker.fail();
      if (!isWrongType(error) && !isUnknownScript(error)) this.#options.onError(command, error);
      throw error;
    }
  }

  /** When it is time, finds out whether every server answers again. No reader waits for that. */
  #probe(): void {
    if (!this.#breaker.admit()) return;
    const answers = async (): Promise<void> => {
      const primaries = await this.#connection.primaries();
      const key = this.#options.probeKey;
      await Promise.all([
        this.#connection.client.get(key),
        ...primaries.map((each) => each.ping()),
      ]);
    };
    this.#within("ping", answers).catch(() => {
      // It has been reported.
    });
  }
}
