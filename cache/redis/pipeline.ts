import { Breaker, BreakerOpenError, type BreakerState } from "./breaker.ts";
import type { Client, Connection } from "./connection.ts";
import { Deadlines } from "./deadlines.ts";
import { isWithoutConnection, NotConnectedError } from "./not_connected.ts";
import { isReply, isUnknownScript, isWrongType, refusesAll } from "./reply_errors.ts";
import type { Runtime, Timer } from "../runtime.ts";

/**
 * Limits of running commands, of the keys that they name and of the bytes of their arguments. Further commands wait
 * here, and their time does not count yet: with many more keys, this process alone would take longer to read the
 * replies than a command may last.
 */
const COMMANDS_MAX = 256;
const KEYS_MAX = 2_048;
const BYTES_MAX = 8 * 1024 * 1024;
/** Longest wait for the first connection, however busy the process is with its start. */
const FIRST_CONNECTION_MS = 1_000;
/** Limit of waiting commands; further ones are refused. */
const WAITING_MAX = 100_000;

/** Options of a {@linkcode Pipeline}. */
export interface PipelineOptions {
  /** Time and randomness. */
  readonly runtime: Runtime;
  /** Longest duration of a command. */
  readonly commandTimeoutMs: number;
  /** A key that is read to find out whether the servers answer again. */
  readonly probeKey: string;
  /** Called when a command fails. */
  readonly onError: (command: string, error: unknown) => void;
  /** Called when the breaker changes its state. */
  readonly onBreaker: (state: BreakerState) => void;
}

/** A waiting command. */
interface Waiting {
  readonly keys: number;
  readonly bytes: number;
  write(): void;
  refuse(error: Error): void;
}

/**
 * Sends commands to the servers of a connection, each with a time limit, and behind a circuit breaker.
 *
 * The time of a command counts from when it is written, so that a long local queue does not count against the
 * server. Commands also wait for the outcome of the first attempt to connect.
 */
export class Pipeline {
  readonly #connection: Connection;
  readonly #options: PipelineOptions;
  readonly #breaker: Breaker;
  readonly #deadlines: Deadlines;
  readonly #waiting: Waiting[] = [];
  readonly #firstConnection: Timer;
  #held = true;
  #closed = false;
  #commands = 0;
  #keys = 0;
  #bytes = 0;

  constructor(connection: Connection, options: PipelineOptions) {
    this.#connection = connection;
    this.#options = options;
    this.#deadlines = new Deadlines(options.runtime.clock, options.commandTimeoutMs);
    this.#breaker = new Breaker(options.runtime.clock, (state) => {
      // Running commands would wait for the same server, and have waited long enough.
      if (state === "open") {
        this.#deadlines.expireAll();
        this.#refuseAll(new BreakerOpenError("Cannot send: the circuit breaker is open"));
      }
      options.onBreaker(state);
    });
    const { clock } = options.runtime;
    this.#firstConnection = clock.after(FIRST_CONNECTION_MS, () => this.release());
  }

  /** Runs one command. `command` names it in errors; `bytes` is the size of large arguments. */
  send<T>(
    command: string,
    run: (client: Client) => Promise<T>,
    keys = 1,
    bytes = 0,
  ): Promise<T> {
    // Gathered commands may come after the end, when no timer would limit them.
    if (this.#closed) {
      return Promise.reject(new Error(`Cannot ${command}: the connection is closed`));
    }
    if (this.#breaker.state !== "closed") {
      this.#probe();
      const message = `Cannot ${command}: the circuit breaker is open`;
      return Promise.reject(new BreakerOpenError(message));
    }
    if (this.#waiting.length === 0 && this.#hasRoom(keys, bytes)) {
      return this.#write(command, run, keys, bytes);
    }
    return new Promise<T>((resolve, reject) => {
      if (this.#waiting.length >= WAITING_MAX) {
        return reject(new Error(`Cannot ${command}: too many commands are waiting`));
      }
      const write = (): void => void this.#write(command, run, keys, bytes).then(resolve, reject);
      this.#waiting.push({ keys, bytes, write, refuse: reject });
    });
  }

  /** Writes the commands that wait for the first connection: it is made, or the first attempt has failed. */
  release(): void {
    this.#firstConnection.cancel();
    this.#held = false;
    this.#drain();
  }

  /** Ends the time limits: the connection and all commands end. */
  close(): void {
    this.#closed = true;
    this.#firstConnection.cancel();
    this.#deadlines.close();
    this.#refuseAll(new Error("Cannot send: the connection is closed"));
  }

  #hasRoom(keys: number, bytes: number): boolean {
    if (this.#held || this.#commands >= COMMANDS_MAX) return false;
    // One command that alone exceeds a limit is sent alone.
    return (this.#keys + keys <= KEYS_MAX || this.#keys === 0) &&
      (this.#bytes + bytes <= BYTES_MAX || this.#bytes === 0);
  }

  #drain(): void {
    let written = 0;
    for (const { keys, bytes, write } of this.#waiting) {
      if (!this.#hasRoom(keys, bytes)) break;
      written++;
      write();
    }
    this.#waiting.splice(0, written);
  }

  #refuseAll(error: Error): void {
    for (const { refuse } of this.#waiting.splice(0)) refuse(error);
  }

  async #write<T>(
    command: string,
    run: (client: Client) => Promise<T>,
    keys: number,
    bytes: number,
  ): Promise<T> {
    this.#commands++;
    this.#keys += keys;
    this.#bytes += bytes;
    try {
      const reply = await this.#deadlines.run(run(this.#connection.client));
      this.#breaker.succeed();
      return reply;
    } catch (cause) {
      const error = cause instanceof Error && isWithoutConnection(cause.message)
        ? new NotConnectedError(`Cannot ${command}: there is no connection to Redis`)
        : cause;
      // An error reply is a sign of life.
      if (isReply(error) && !refusesAll(error)) this.#breaker.succeed();
      else this.#breaker.fail();
      if (!isWrongType(error) && !isUnknownScript(error)) this.#options.onError(command, error);
      throw error;
    } finally {
      this.#commands--;
      this.#keys -= keys;
      this.#bytes -= bytes;
      if (this.#waiting.length > 0) this.#drain();
    }
  }

  /** Finds out, if it is time, whether every server answers again. No reader waits for this. */
  #probe(): void {
    if (!this.#breaker.admit()) return;
    const answers = async (client: Client): Promise<void> => {
      const primaries = await this.#connection.primaries();
      const key = this.#options.probeKey;
      await Promise.all([client.get(key), ...primaries.map((each) => each.ping())]);
    };
    this.#write("ping", answers, 1, 0).catch(() => {
      // The error has been reported.
    });
  }
}
