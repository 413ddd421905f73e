import type { Clock, Timer } from "../../cache/runtime.ts";
import type { FeedListener } from "../../cache/store.ts";

/**
 * Where a simulated step waits for its turn. A command passes it twice: before it takes effect, and
 * before its reply arrives. A feed message passes it before it is delivered.
 */
export type Gate = (step: string) => Promise<void>;

/** What a {@linkcode SimulatedFeed} works with. */
export interface SimulatedFeedWiring {
  /** Whose feed it is, for the names of steps. */
  readonly name: string;
  readonly clock: Clock;
  readonly gate: Gate;
  /** How often a sign of life is asked for; once if undefined. */
  readonly heartbeatMs: number | undefined;
}

interface Message {
  readonly step: string;
  readonly deliver: () => void;
}

/** The invalidation feed of one cache: messages arrive in order, each a step of its own. */
export class SimulatedFeed {
  readonly #wiring: SimulatedFeedWiring;
  /** A set, because ten thousand at the end of an array take long to move up. */
  readonly #messages = new Set<Message>();
  #listener: FeedListener | undefined;
  #pumping = false;
  /** Counts connections: what was sent on one that is gone never arrives. */
  #connection = 0;
  #listening = false;
  #heartbeat: Timer | undefined;
  #closed = false;

  constructor(wiring: SimulatedFeedWiring) {
    this.#wiring = wiring;
  }

  /** Says who listens. */
  follow(listener: FeedListener): void {
    this.#listener = listener;
  }

  /** Announces a change of a key, if the feed is open. */
  announce(redisKey: string): void {
    const deliver = () => this.#listener?.changed(redisKey);
    if (this.#listening) this.#send({ step: `feed changed ${redisKey}`, deliver });
  }

  /** Announces that everything was deleted, if the feed is open. */
  announceFlush(): void {
    const deliver = () => this.#listener?.flushed();
    if (this.#listening) this.#send({ step: "feed flushed", deliver });
  }

  /** Connects. */
  async open(): Promise<void> {
    await this.#wiring.gate(`${this.#wiring.name} feed connect`);
    if (this.#closed) return;
    this.#listening = true;
    const connection = this.#connection;
    const opened = () => {
      this.#listener?.opened();
      this.#beat(connection);
    };
    this.#send({ step: "feed opened", deliver: opened });
  }

  /** Stops without a word: what was under way is lost, and no sign of life comes any more. */
  silence(): void {
    this.#listening = false;
    this.#connection++;
    this.#messages.clear();
    this.#heartbeat?.cancel();
  }

  /** Stops, and the cache notices. */
  lose(reason: string): void {
    this.silence();
    this.#listener?.closed(reason);
  }

  /** Ends for good. */
  close(): void {
    this.#closed = true;
    this.silence();
  }

  /** The ping travels on this connection, so its answer comes behind the messages sent before it. */
  #beat(connection: number): void {
    const { clock, gate, name, heartbeatMs } = this.#wiring;
    const sentAtMs = clock.monotonicNow();
    const alive = () => {
      this.#listener?.alive(sentAtMs);
      if (heartbeatMs === undefined) return;
      this.#heartbeat = clock.after(heartbeatMs, () => this.#beat(connection));
    };
    void gate(`${name} ping`).then(() => {
      if (connection === this.#connection) this.#send({ step: "feed alive", deliver: alive });
    });
  }

  #send(message: Message): void {
    this.#messages.add(message);
    if (!this.#pumping) void this.#pump();
  }

  /** Delivers in order, as one connection does. */
  async #pump(): Promise<void> {
    this.#pumping = true;
    for (const next of this.#messages) {
      const connection = this.#connection;
      await this.#wiring.gate(`${this.#wiring.name} ${next.step}`);
      if (connection !== this.#connection) continue; // lost under way
      this.#messages.delete(next);
      next.deliver();
    }
    this.#pumping = false;
  }
}
