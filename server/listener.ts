/**
 * Where requests come in: a server that outlives what ends Deno's.
 *
 * @module
 */

import type { Logger } from "@logtape/logtape";
import type { Config } from "./config.ts";
import { messageOf } from "./message_of.ts";
import { redactUrl } from "./redact_url.ts";
import { StartError } from "./start_error.ts";

/** How long until it listens anew. */
const RELISTEN_MS = 50;

/** What a {@linkcode Listener} takes. */
export interface ListenerOptions {
  /** The address to listen at. */
  readonly hostname: string;
  /** The port to listen at. 0: any free one, and then always that. */
  readonly port: number;
  /** Whether other processes listen there, too. */
  readonly reusePort: boolean;
  /** Told of the address once it listens. */
  readonly onListen: (address: Deno.NetAddr) => void;
  /** Told why connections could not be accepted, each time. */
  readonly onError: (error: unknown) => void;
}

/**
 * Answers requests until it is shut down.
 *
 * Deno's server ends at the first connection that it cannot accept, as when the process may open no more
 * files, and closes nothing: whoever holds enough idle connections, which it never ends by itself, would
 * end the service. Here the idle ones are closed then, which makes room; what was asked is answered, and
 * a new server listens.
 */
export class Listener {
  readonly #options: ListenerOptions;
  readonly #handler: Deno.ServeHandler<Deno.NetAddr>;
  readonly #ending = new Set<Promise<void>>();
  #server: Deno.HttpServer<Deno.NetAddr>;
  #relistening: ReturnType<typeof setTimeout> | undefined;
  #stopped = false;

  /** @throws {Deno.errors.AddrInUse} Somebody else listens there. */
  constructor(options: ListenerOptions, handler: Deno.ServeHandler<Deno.NetAddr>) {
    this.#options = options;
    this.#handler = handler;
    this.#server = this.#listen(options.port, options.onListen);
  }

  /** Accepts no more, and resolves once everything that was asked is answered. */
  async shutdown(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#relistening);
    this.#end(this.#server);
    while (this.#ending.size > 0) await Promise.all(this.#ending);
  }

  #listen(
    port: number,
    onListen: (address: Deno.NetAddr) => void = () => undefined,
  ): Deno.HttpServer<Deno.NetAddr> {
    const { hostname, reusePort } = this.#options;
    const server = Deno.serve({ hostname, port, reusePort, onListen }, this.#handler);
    server.finished.catch((error: unknown) => {
      this.#options.onError(error);
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
        this.#options.onError(error);
        this.#relisten(port);
      }
    }, RELISTEN_MS);
  }

  /** Closes idle connections of a server, and lets it answer what it was asked. */
  #end(server: Deno.HttpServer<Deno.NetAddr>): void {
    // What it fails with was reported when it ended.
    const ending: Promise<void> = server.shutdown().catch(() => undefined)
      .finally(() => this.#ending.delete(ending));
    this.#ending.add(ending);
  }
}

/**
 * Answers requests where the configuration says.
 *
 * @throws {StartError} It cannot be listened there.
 */
export function listen(config: Config, handler: Deno.ServeHandler, logger: Logger): Listener {
  const { hostname, port } = config.http;
  try {
    return new Listener({
      hostname,
      port,
      reusePort: config.workers > 1,
      onListen: (address) =>
        logger.info("listening on {url}", {
          url: `http://${bracketed(address.hostname)}:${address.port}`,
          redis: redactUrl(config.cache.url),
          postgres: redactUrl(config.database.url),
          cache: config.cache.enabled,
        }),
      onError: (error) =>
        logger.error("Cannot accept connections: {reason}; idle ones are closed", {
          reason: messageOf(error),
        }),
    }, handler);
  } catch (error) {
    const why = error instanceof Deno.errors.AddrInUse ? "the port is in use" : messageOf(error);
    throw new StartError(`Cannot listen at ${bracketed(hostname)}:${port}: ${why}`, {
      cause: error,
    });
  }
}

function bracketed(hostname: string): string {
  return hostname.includes(":") ? `[${hostname}]` : hostname;
}
