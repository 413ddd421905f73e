import { setTimeout as delay } from "node:timers/promises";

/** The treatment of forwarded data. */
export type ProxyMode = "pass" | "hang" | "cut";

/** Sees the data of one connection. It may look at the bytes, but not keep them. */
export interface ProxyObserver {
  /** The client sent this, which is about to be forwarded. */
  sent(chunk: Uint8Array): void;
  /** The server sent this, which is about to be forwarded. */
  received(chunk: Uint8Array): void;
  /** The connection ended. */
  closed(): void;
  /** True to drop the data that it has just seen silently. Default: it is forwarded. */
  drops?(): boolean;
}

/** Options of {@linkcode startTcpProxy}. */
export interface ProxyOptions {
  /** Called for each connection. Default: no observer. */
  readonly observe?: () => ProxyObserver;
}

/** Limit of delayed chunks in one direction. */
const DELAYED_CHUNKS_MAX = 1_000;

/** A TCP proxy on loopback that can fail as networks do. Held bytes are never lost or reordered. */
export class TcpProxy implements AsyncDisposable {
  /** The port for clients; it stays the same across cuts. */
  readonly port: number;
  readonly #observe: (() => ProxyObserver) | undefined;
  readonly #connections = new Set<Deno.TcpConn>();
  readonly #stranded = new Set<Deno.TcpConn>();
  readonly #running = new Set<Promise<void>>();
  readonly #closing = new AbortController();
  #listener: Deno.TcpListener | undefined;
  #gate = Promise.withResolvers<void>();
  #mode: ProxyMode = "pass";
  #delayMs = 0;
  #targetPort: number;

  /** Use {@linkcode startTcpProxy}. */
  constructor(targetPort: number, options: ProxyOptions = {}) {
    this.#targetPort = targetPort;
    this.#observe = options.observe;
    const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    this.port = listener.addr.port;
    this.#gate.resolve();
    this.#accept(listener);
  }

  /** Forwards everything again, held bytes first. */
  pass(): void {
    this.#mode = "pass";
    this.#gate.resolve();
    if (!this.#listener) {
      this.#accept(Deno.listen({ hostname: "127.0.0.1", port: this.port }));
    }
  }

  /** Stops forwarding and closes nothing, as when packets are dropped. */
  hang(): void {
    if (this.#mode === "hang") return;
    this.#mode = "hang";
    this.#gate = Promise.withResolvers<void>();
  }

  /**
   * Stops forwarding on the present connections for good without closing them, as when a firewall forgets them.
   * New ones work.
   */
  strand(): void {
    for (const connection of this.#connections) this.#stranded.add(connection);
  }

  /** Closes every connection and refuses new ones. */
  cut(): void {
    this.#mode = "cut";
    this.#gate.resolve();
    this.#listener?.close();
    this.#listener = undefined;
    this.#closeConnections();
  }

  /** Closes every connection. New ones go to another port of loopback. */
  redirect(targetPort: number): void {
    this.redirectNew(targetPort);
    this.#closeConnections();
  }

  /** Makes new connections go to another port of loopback; present ones stay. */
  redirectNew(targetPort: number): void {
    this.#targetPort = targetPort;
  }

  /** Holds every chunk for that time in both directions, as a long distance does. */
  delay(delayMs: number): void {
    this.#delayMs = delayMs;
  }

  /** Closes everything and waits until nothing runs any more. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    this.cut();
    await Promise.all(this.#running);
  }

  #accept(listener: Deno.TcpListener): void {
    this.#listener = listener;
    this.#track(async () => {
      for await (const client of listener) this.#track(() => this.#serve(client));
    });
  }

  async #serve(client: Deno.TcpConn): Promise<void> {
    this.#connections.add(client);
    let target: Deno.TcpConn;
    try {
      target = await Deno.connect({ hostname: "127.0.0.1", port: this.#targetPort });
    } catch (error) {
      this.#drop(client);
      throw error;
    }
    this.#connections.add(target);
    if (this.#mode === "cut") this.#closeConnections();
    const observer = this.#observe?.();
    try {
      await Promise.all([
        this.#forward(client, target, (chunk) => {
          observer?.sent(chunk);
          return observer?.drops?.() !== true;
        }),
        this.#forward(target, client, (chunk) => {
          observer?.received(chunk);
          return observer?.drops?.() !== true;
        }),
      ]);
    } finally {
      observer?.closed();
      this.#drop(client);
      this.#drop(target);
    }
  }

  /** Forwards data until the source ends, then ends both sides. */
  async #forward(
    from: Deno.TcpConn,
    to: Deno.TcpConn,
    admit: (chunk: Uint8Array) => boolean,
  ): Promise<void> {
    const buffer = new Uint8Array(64 * 1024);
    let delayed = 0;
    let sending: Promise<unknown> = Promise.resolve();
    for (;;) {
      const size = await from.read(buffer);
      await this.#gate.promise;
      if (size === null) break;
      if (this.#stranded.has(from)) continue;
      if (this.#delayMs === 0 && delayed === 0) {
        const chunk = buffer.subarray(0, size);
        if (admit(chunk)) await write(to, chunk);
        continue;
      }
      // Each is held from its own arrival, so that several are delayed at the same time.
      const chunk = buffer.slice(0, size);
      const due = delay(this.#delayMs, undefined, { signal: this.#closing.signal });
      delayed++;
      const sent = Promise.all([due, sending]).then(async () => {
        await this.#gate.promise;
        if (admit(chunk)) await write(to, chunk);
        delayed--;
      });
      sending = sent;
      this.#track(() => sent);
      if (delayed >= DELAYED_CHUNKS_MAX) await sent;
    }
    await sending;
    this.#drop(from);
    this.#drop(to);
  }

  #closeConnections(): void {
    for (const connection of this.#connections) this.#drop(connection);
  }

  #drop(connection: Deno.TcpConn): void {
    this.#stranded.delete(connection);
    if (this.#connections.delete(connection)) connection.close();
  }

  #track(run: () => Promise<void>): void {
    const running: Promise<void> = run().catch((error: unknown) => {
      if (!isBroken(error)) throw error;
    }).finally(() => this.#running.delete(running));
    this.#running.add(running);
  }
}

/** Starts a proxy in front of a port of loopback. */
export function startTcpProxy(targetPort: number, options: ProxyOptions = {}): TcpProxy {
  return new TcpProxy(targetPort, options);
}

async function write(connection: Deno.TcpConn, chunk: Uint8Array): Promise<void> {
  for (let sent = 0; sent < chunk.length;) sent += await connection.write(chunk.subarray(sent));
}

/** True if an error says that a connection ended, which a proxy must expect. */
function isBroken(error: unknown): boolean {
  return error instanceof Deno.errors.BadResource || error instanceof Deno.errors.Interrupted ||
    error instanceof Deno.errors.ConnectionReset ||
    error instanceof Deno.errors.ConnectionRefused ||
    error instanceof Deno.errors.BrokenPipe || error instanceof Deno.errors.ConnectionAborted ||
    error instanceof Deno.errors.NotConnected ||
    (error instanceof Error && error.name === "AbortError");
}
