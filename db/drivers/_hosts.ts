import type { Options } from "postgres";

/**
 * The servers that a URL names: one is asked at a time, and the next one where it cannot be reached or takes
 * no writes.
 *
 * postgres.js knows several hosts as well, but not when to give up: while none can be reached it tries them
 * without pause, whatever is closed meanwhile. And it takes a standby for a server that takes writes.
 */
export class Hosts {
  readonly #urls: readonly [URL, ...URL[]];
  readonly #host = [""];
  readonly #port = [0];
  #at = 0;

  constructor(urls: readonly [URL, ...URL[]]) {
    this.#urls = urls;
    this.#point();
  }

  /**
   * The server that is asked, as an option: postgres.js takes arrays, though its types do not say so, and looks
   * into them each time that it connects.
   */
  get option(): Pick<Options<never>, "host" | "port"> {
    return { host: this.#host as unknown as string, port: this.#port as unknown as number };
  }

  /** How many there are. */
  get count(): number {
    return this.#urls.length;
  }

  /** The server that is asked. */
  get current(): URL {
    return this.#urls[this.#at] ?? this.#urls[0];
  }

  /** Turns to the next server, unless that was done already. */
  leave(server: URL): void {
    if (server !== this.current) return;
    this.#at = (this.#at + 1) % this.#urls.length;
    this.#point();
  }

  #point(): void {
    const { hostname, port } = this.current;
    this.#host[0] = hostname.replace(/^\[(.*)\]$/, "$1");
    this.#port[0] = port === "" ? 5432 : Number(port);
  }
}
