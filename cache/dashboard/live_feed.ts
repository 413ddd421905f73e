/**
 * One sampler for all viewers, over Server-Sent Events.
 *
 * @module
 */
import type { Clock, Timer } from "../runtime.ts";

const EVERY_MS = 1_000;
/** Limit of viewers at once. */
const LISTENERS_MAX = 32;
/** A viewer that is this many samples behind is disconnected; it reconnects if it is still there. */
const BEHIND_MAX = 8;

type Listener = ReadableStreamDefaultController<Uint8Array>;

/** Parts of a {@linkcode LiveFeed}. */
export interface LiveFeedOptions {
  /** Makes a sample. */
  readonly sample: () => unknown;
  /** Sets the pace. */
  readonly clock: Clock;
  /** Ends every stream, so that viewers do not delay a server that stops. */
  readonly signal: AbortSignal | undefined;
}

/** Takes a sample every second while there are viewers, and sends it to all of them. */
export class LiveFeed {
  readonly #options: LiveFeedOptions;
  readonly #listeners = new Set<Listener>();
  readonly #encoder = new TextEncoder();
  #latest: Uint8Array | undefined;
  #timer: Timer | undefined;

  /** Takes no sample before the first viewer. */
  constructor(options: LiveFeedOptions) {
    this.#options = options;
    options.signal?.addEventListener("abort", () => this.#stop(), { once: true });
  }

  /** A stream of events that begins with a sample. `undefined`: there are too many viewers, or the server stops. */
  listen(): ReadableStream<Uint8Array> | undefined {
    if (this.#listeners.size >= LISTENERS_MAX || this.#options.signal?.aborted) return undefined;
    let listener: Listener;
    return new ReadableStream<Uint8Array>({
      start: (controller) => {
        listener = controller;
        this.#listeners.add(controller);
        if (this.#latest === undefined) this.#tick();
        else controller.enqueue(this.#latest);
      },
      cancel: () => this.#leave(listener),
    }, { highWaterMark: BEHIND_MAX });
  }

  #tick(): void {
    const { sample, clock } = this.#options;
    this.#latest = this.#encoder.encode(`data: ${JSON.stringify(sample())}\n\n`);
    this.#timer = clock.after(EVERY_MS, () => this.#tick());
    for (const listener of [...this.#listeners]) {
      if ((listener.desiredSize ?? 0) > 0) listener.enqueue(this.#latest);
      else this.#end(listener);
    }
  }

  #end(listener: Listener): void {
    listener.close();
    this.#leave(listener);
  }

  #leave(listener: Listener): void {
    this.#listeners.delete(listener);
    if (this.#listeners.size > 0) return;
    this.#timer?.cancel();
    this.#latest = undefined;
  }

  #stop(): void {
    for (const listener of [...this.#listeners]) this.#end(listener);
  }
}
