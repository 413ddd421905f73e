/**
 * One sampler for every listener, as Server-Sent Events.
 *
 * @module
 */
import type { Clock, Timer } from "../runtime.ts";

const EVERY_MS = 1_000;
/** The most listeners at once. */
const LISTENERS_MAX = 32;
/** A listener that is this many samples behind is let go: it connects again if it still lives. */
const BEHIND_MAX = 8;

type Listener = ReadableStreamDefaultController<Uint8Array>;

/** Parts of a {@linkcode LiveFeed}. */
export interface LiveFeedOptions {
  /** Makes a sample. */
  readonly sample: () => unknown;
  /** For the pace. */
  readonly clock: Clock;
  /** Ends every stream, so that nobody who stops has to wait for those who look on. */
  readonly signal: AbortSignal | undefined;
}

/** Takes a sample every second for as long as anybody listens, and sends it to all who do. */
export class LiveFeed {
  readonly #options: LiveFeedOptions;
  readonly #listeners = new Set<Listener>();
  readonly #encoder = new TextEncoder();
  #latest: Uint8Array | undefined;
  #timer: Timer | undefined;

  /** Samples nothing yet. */
  constructor(options: LiveFeedOptions) {
    this.#options = options;
    options.signal?.addEventListener("abort", () => this.#stop(), { once: true });
  }

  /** A stream of events that begins with a sample. `undefined`: too many listen, or the end is near. */
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
