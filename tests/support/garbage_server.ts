/** Answers whatever it is sent with bytes that are no answer. */
export class GarbageServer implements AsyncDisposable {
  /** The port it listens on, on loopback. */
  readonly port: number;
  readonly #listener: Deno.TcpListener;
  readonly #connections = new Set<Deno.TcpConn>();
  readonly #running = new Set<Promise<void>>();
  #answered = 0;

  /** Starts to listen. */
  constructor(bytes: Uint8Array) {
    this.#listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    this.port = this.#listener.addr.port;
    this.#track(async () => {
      for await (const connection of this.#listener) {
        this.#track(() => this.#answer(connection, bytes));
      }
    });
  }

  /** How many messages it has answered. */
  get answered(): number {
    return this.#answered;
  }

  /** Closes everything and waits until nothing runs any more. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    for (const connection of this.#connections) this.#drop(connection);
    await Promise.all(this.#running);
  }

  async #answer(connection: Deno.TcpConn, bytes: Uint8Array): Promise<void> {
    this.#connections.add(connection);
    const buffer = new Uint8Array(4096);
    try {
      while (await connection.read(buffer) !== null) {
        for (let sent = 0; sent < bytes.length;) {
          sent += await connection.write(bytes.subarray(sent));
        }
        this.#answered++;
      }
    } finally {
      this.#drop(connection);
    }
  }

  #drop(connection: Deno.TcpConn): void {
    if (this.#connections.delete(connection)) connection.close();
  }

  #track(run: () => Promise<void>): void {
    // Clients of such a server leave in every way there is; which one is of no interest.
    const running: Promise<void> = run().catch(() => undefined)
      .finally(() => this.#running.delete(running));
    this.#running.add(running);
  }
}
