import type { ProxyObserver } from "../../tools/servers/tcp_proxy.ts";

/** Front-end messages that Postgres answers with one ReadyForQuery: Query and Sync. */
const ASKING: ReadonlySet<number> = new Set([..."QS"].map((letter) => letter.charCodeAt(0)));
/** ReadyForQuery. */
const READY = "Z".charCodeAt(0);
const HEADER_BYTES = 5;

/** Counts the statements that pass a proxy in front of Postgres, and how many run at once. */
export class QueryCounter {
  /** Statements so far; `BEGIN` and `COMMIT` are some, too. */
  queries = 0;
  /** The most connections that were open at once. */
  connectionsMax = 0;
  /** The most connections that had a statement under way at once. */
  runningMax = 0;
  #connections = 0;
  #running = 0;

  /** Starts the maxima anew. */
  resetMax(): void {
    this.connectionsMax = this.#connections;
    this.runningMax = this.#running;
  }

  /** Looks at one connection: what a proxy's `observe` takes. */
  readonly observe = (): ProxyObserver => {
    let pending = 0;
    let started = false;
    this.#connections++;
    this.connectionsMax = Math.max(this.connectionsMax, this.#connections);
    const requests = new Frames((type) => {
      if (!ASKING.has(type)) return;
      this.queries++;
      if (pending++ > 0) return;
      this.#running++;
      this.runningMax = Math.max(this.runningMax, this.#running);
    }, { untyped: 1 });
    const answers = new Frames((type) => {
      if (type !== READY) return;
      // The first one answers the start-up, not a statement.
      if (started && --pending === 0) this.#running--;
      started = true;
    }, { untyped: 0 });
    return {
      sent: (chunk) => requests.take(chunk),
      received: (chunk) => answers.take(chunk),
      closed: () => {
        this.#connections--;
        if (pending > 0) this.#running--;
      },
    };
  };
}

/** Finds the messages in a stream of bytes: a type, a length, and as many bytes. */
class Frames {
  readonly #onMessage: (type: number) => void;
  readonly #header = new Uint8Array(HEADER_BYTES);
  #filled = 0;
  #skip = 0;
  #untyped: number;

  /** `untyped`: so many messages at the beginning have a length and no type. */
  constructor(onMessage: (type: number) => void, { untyped }: { readonly untyped: number }) {
    this.#onMessage = onMessage;
    this.#untyped = untyped;
  }

  take(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length;) {
      if (this.#skip > 0) {
        const skipped = Math.min(this.#skip, chunk.length - at);
        this.#skip -= skipped;
        at += skipped;
        continue;
      }
      if (this.#filled === 0 && this.#untyped > 0) this.#filled = 1; // as if its type had been read
      this.#header[this.#filled++] = chunk[at++] ?? 0;
      if (this.#filled < HEADER_BYTES) continue;
      this.#filled = 0;
      this.#skip = new DataView(this.#header.buffer).getUint32(1) - (HEADER_BYTES - 1);
      if (this.#untyped > 0) this.#untyped--;
      else this.#onMessage(this.#header[0] ?? 0);
    }
  }
}
