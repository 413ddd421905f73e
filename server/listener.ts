/**
 * Accepts requests, also after errors that end Deno's server.
 *
 * @module
 */

import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "@logtape/logtape";
import type { Config } from "./config.ts";
import { messageOf } from "./message_of.ts";
import { redactUrl } from "./redact_url.ts";
import { StartError } from "./start_error.ts";

/** Delay before listening again. */
const RELISTEN_MS = 50;
/** A client that sends nothing for this long is idle, and has read its last answer. */
const QUIET_MS = 250;
/** Longest time for asking clients to reconnect, and for holding their answers. */
const SETTLE_MS = 1_000;
/** While answers are held: when no request arrives for this long, every client is in the middle of one. */
const HOLD_MS = 100;
/** Pause between two looks at whether bodies have arrived. */
const LOOK_MS = 10;

/** Answers requests. */
export type Handler = Deno.ServeHandler<Deno.NetAddr>;

/**
 * Answers requests until it is shut down.
 *
 * Deno's server ends at the first connection that it cannot accept, for example because the process has too many
 * files open, and it closes no connections: enough idle ones, which it never closes, could thus end the service.
 * This class then closes idle connections, which makes room, answers running requests, and listens with a new
 * server.
 *
 * Closing the port closes every connection that is not in the middle of a request, so a client that has just
 * sent one would get no answer. It also makes bodies unreadable that have not been read. Therefore shutdown has
 * four steps:
 *
 * ```text
 * 1. each answer says `Connection: close`, so that clients reconnect, here or to another process
 * 2. bodies that are on their way arrive
 * 3. answers are held for a moment, so that every client is in the middle of a request
 * 4. the port is closed, which spares these connections, and they are answered
 * ```
 */
export class Listener {
  readonly #config: Config;
  readonly #logger: Logger;
  readonly #ending = new Set<Promise<void>>();
  #answer: Handler;
  #server: Deno.HttpServer<Deno.NetAddr>;
  #relistening: ReturnType<typeof setTimeout> | undefined;
  #stopping = false;
  #stopped = false;
  /** Requests whose bodies may be on their way. */
  #receiving = 0;

  /**
   * Listens at the configured address. With port 0 it takes any free one, and keeps it.
   *
   * @throws {Deno.errors.AddrInUse} Another program listens there.
   */
  constructor(config: Config, handler: Handler, logger: Logger) {
    this.#config = config;
    this.#answer = (request, info) => this.#counted(request, handler(request, info));
    this.#logger = logger;
    this.#server = this.#listen(config.http.port, (address) =>
      logger.info("listening on {url}", {
        url: `http://${bracketed(address.hostname)}:${address.port}`,
        redis: redactUrl(config.cache.url),
        postgres: redactUrl(config.database.url),
        cache: config.cache.enabled,
      }));
  }

  /** Makes clients reconnect elsewhere, accepts no more, and resolves once all requests are answered. */
  async shutdown(): Promise<void> {
    const receiveUntilMs = performance.now() + this.#config.http.shutdownTimeoutMs / 2;
    const answer = this.#answer;
    this.#stopping = true;
    let asked = 0;
    this.#answer = (request, info) => {
      asked++;
      return answer(request, info);
    };
    await untilQuiet(QUIET_MS, () => asked);
    await this.#received(receiveUntilMs);
    const held = Promise.withResolvers<void>();
    this.#answer = async (request, info) => {
      asked++;
      const [response] = await Promise.all([answer(request, info), held.promise]);
      return response;
    };
    if (asked > 0) await untilQuiet(HOLD_MS, () => asked);
    await this.#received(receiveUntilMs);
    this.#stopped = true;
    clearTimeout(this.#relistening);
    this.#end(this.#server);
    held.resolve();
    while (this.#ending.size > 0) await Promise.all(this.#ending);
  }

  #counted(request: Request, answering: Response | Promise<Response>) {
    if (request.method === "GET" || answering instanceof Response) return answering;
    this.#receiving++;
    return answering.finally(() => {
      this.#receiving--;
    });
  }

  /** Closes the connection also of what came before the shutdown: Deno waits for the rest of a body until then. */
  async #answered(answering: Response | Promise<Response>): Promise<Response> {
    const response = await answering;
    if (this.#stopping) response.headers.set("connection", "close");
    return response;
  }

  /** Resolves once no body is on its way, or at that time. */
  async #received(endsAtMs: number): Promise<void> {
    while (this.#receiving > 0 && performance.now() < endsAtMs) await delay(LOOK_MS);
  }

  #listen(
    port: number,
    onListen: (address: Deno.NetAddr) => void = () => undefined,
  ): Deno.HttpServer<Deno.NetAddr> {
    const { http: { hostname }, workers } = this.#config;
    // Named parameters: Deno passes `info` only to a handler that declares it.
    const server = Deno.serve(
      { hostname, port, reusePort: workers > 1, onListen },
      (request, info) => {
        const answering = this.#answer(request, info);
        // A promise would cost a hit of memory a tenth of its time.
        if (answering instanceof Response && !this.#stopping) return answering;
        return this.#answered(answering);
      },
    );
    server.finished.catch((error: unknown) => {
      this.#logError(error);
      this.#end(server);
      this.#relisten(server.addr.port);
    });
    return server;
  }

  #relisten(port: number): void {
    if (this.#stopped) return;
    this.#relistening = setTimeout(() => {
      try {
        this.#server = this.#listen(port);
      } catch (error) {
        this.#logError(error);
        this.#relisten(port);
      }
    }, RELISTEN_MS);
  }

  #logError(error: unknown): void {
    const reason = messageOf(error);
    this.#logger.error("Cannot accept connections: {reason}; idle ones are closed to make room", {
      reason,
    });
  }

  /** Closes idle connections of a server, and lets it answer running requests. */
  #end(server: Deno.HttpServer<Deno.NetAddr>): void {
    // Its error was reported when it ended.
    const ending: Promise<void> = server.shutdown().catch(() => undefined)
      .finally(() => this.#ending.delete(ending));
    this.#ending.add(ending);
  }
}

/**
 * Resolves once a count has stayed the same for so many milliseconds, or after a second. Time in which this process
 * did not run does not count: what arrived meanwhile has not been seen.
 */
async function untilQuiet(ms: number, count: () => number): Promise<void> {
  const endsAtMs = performance.now() + SETTLE_MS;
  for (;;) {
    const before = count();
    const startedAtMs = performance.now();
    await delay(ms);
    const nowMs = performance.now();
    if (nowMs > endsAtMs || count() === before && nowMs - startedAtMs < 1.5 * ms) return;
  }
}

/**
 * Answers requests at the configured address.
 *
 * @throws {StartError} It cannot listen there.
 */
export function listen(config: Config, handler: Handler, logger: Logger): Listener {
  try {
    return new Listener(config, handler, logger);
  } catch (error) {
    throw cannotListen(config, error);
  }
}

/** The error of a failed attempt to listen. */
export function cannotListen({ http: { hostname, port } }: Config, cause: unknown): StartError {
  const why = cause instanceof Deno.errors.AddrInUse ? "the port is in use" : messageOf(cause);
  return new StartError(`Cannot listen at ${bracketed(hostname)}:${port}: ${why}`, { cause });
}

function bracketed(hostname: string): string {
  return hostname.includes(":") ? `[${hostname}]` : hostname;
}
