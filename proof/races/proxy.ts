/**
 * A proxy between an instance and Redis, which can refuse connections and delay an answer.
 *
 * @module
 */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

/** A delayed answer. */
export interface HeldAnswer {
  /** Resolves once Redis has sent it. */
  readonly given: Promise<void>;
  /** Forwards it, and later answers on its connection. */
  release(): void;
}

const LOOPBACK = "127.0.0.1";

/** Forwards connections to a port of loopback. */
export class RedisProxy implements AsyncDisposable {
  /** The port that clients connect to. It stays the same. */
  readonly port: number;
  readonly #targetPort: number;
  readonly #sent: (chunk: Uint8Array) => void;
  readonly #sockets = new Set<Socket>();
  #server: Server;
  #snare:
    | { matches(chunk: Uint8Array): boolean; given(): void; readonly released: Promise<void> }
    | undefined;

  private constructor(server: Server, targetPort: number, sent: (chunk: Uint8Array) => void) {
    this.#server = server;
    this.#targetPort = targetPort;
    this.#sent = sent;
    this.port = (server.address() as AddressInfo).port;
    server.on("connection", (client) => this.#serve(client));
  }

  /** Starts a proxy. `sent` is called with everything that clients send. */
  static async start(targetPort: number, sent: (chunk: Uint8Array) => void): Promise<RedisProxy> {
    return new RedisProxy(await listen(0), targetPort, sent);
  }

  /** Refuses new connections; present ones stay. */
  refuseNew(): void {
    this.#server.close();
  }

  /** Accepts connections again. */
  async pass(): Promise<void> {
    this.#server = await listen(this.port);
    this.#server.on("connection", (client) => this.#serve(client));
  }

  /** Delays the next answer that `matches`, and those after it on the same connection. */
  holdAnswer(matches: (chunk: Uint8Array) => boolean): HeldAnswer {
    const given = Promise.withResolvers<void>();
    const released = Promise.withResolvers<void>();
    this.#snare = { matches, given: given.resolve, released: released.promise };
    return { given: given.promise, release: released.resolve };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { listening } = this.#server;
    this.#server.close();
    const open = [...this.#sockets];
    const closed = open.map((socket) => once(socket, "close"));
    for (const socket of open) socket.destroy();
    await Promise.all([...closed, ...listening ? [once(this.#server, "close")] : []]);
  }

  #serve(client: Socket): void {
    const target = connect({ host: LOOPBACK, port: this.#targetPort });
    for (const [socket, other] of [[client, target], [target, client]] as const) {
      this.#sockets.add(socket);
      socket.setNoDelay(true);
      socket.on("error", () => undefined); // "close" follows
      socket.on("close", () => {
        this.#sockets.delete(socket);
        other.destroy();
      });
    }
    client.on("data", (chunk: Uint8Array) => {
      this.#sent(chunk);
      target.write(chunk);
    });
    target.on("data", (chunk: Uint8Array) => {
      const snare = this.#snare;
      if (!snare?.matches(chunk)) return void client.write(chunk);
      this.#snare = undefined;
      snare.given();
      target.pause();
      void snare.released.then(() => {
        client.write(chunk);
        target.resume();
      });
    });
  }
}

async function listen(port: number): Promise<Server> {
  const server = createServer();
  server.listen(port, LOOPBACK);
  await once(server, "listening");
  return server;
}
