/** One answered request, or one that got no answer. */
export interface Answer {
  /** The status; 0 if there was no answer. */
  readonly status: number;
  /** The body, whole; why there is none if there was no answer. */
  readonly text: string;
  /** The headers of the answer. */
  readonly headers: Headers;
}

/** Requests that go on until they are stopped. */
export interface Load extends AsyncDisposable {
  /** How many were answered so far. */
  readonly count: number;
  /** How long the slowest took, in milliseconds. */
  readonly slowestMs: number;
  /** Resolves once so many more were answered. */
  answered(more: number): Promise<void>;
  /** Sends no more, waits for those under way, and answers those that were judged bad. */
  stop(): Promise<Answer[]>;
}

/** What to send, and how to judge it. */
export interface LoadOptions {
  /** Sends the n-th request. */
  readonly send: (n: number) => Promise<Response>;
  /** Whether an answer is as it should be. */
  readonly isGood: (answer: Answer) => boolean;
  /** Requests under way at once. Default 4. */
  readonly concurrency?: number;
}

/** Bad answers kept. A test needs to see a few. */
const badMax = 20;

/** Starts sending requests, each sender one after the other. */
export function startLoad(options: LoadOptions): Load {
  const { send, isGood, concurrency = 4 } = options;
  const bad: Answer[] = [];
  const waiting = new Set<{ readonly target: number; readonly resolve: () => void }>();
  let sent = 0;
  let count = 0;
  let slowestMs = 0;
  let stopped = false;

  async function run(): Promise<void> {
    while (!stopped) {
      const sentAtMs = performance.now();
      const answer = await read(() => send(sent++));
      slowestMs = Math.max(slowestMs, performance.now() - sentAtMs);
      if (!isGood(answer) && bad.length < badMax) bad.push(answer);
      count++;
      for (const waiter of waiting) {
        if (waiter.target > count) continue;
        waiting.delete(waiter);
        waiter.resolve();
      }
    }
  }

  const senders = Promise.all(Array.from({ length: concurrency }, run));
  const stop = async () => {
    stopped = true;
    await senders;
    return bad;
  };
  return {
    get count() {
      return count;
    },
    get slowestMs() {
      return slowestMs;
    },
    answered: (more) => new Promise((resolve) => waiting.add({ target: count + more, resolve })),
    stop,
    async [Symbol.asyncDispose]() {
      await stop();
    },
  };
}

/** Sends a request and reads the whole answer. */
export async function read(send: () => Promise<Response>): Promise<Answer> {
  try {
    const response = await send();
    return {
      status: response.status,
      text: await response.text(),
      headers: response.headers,
    };
  } catch (error) {
    return { status: 0, text: describe(error), headers: new Headers() };
  }
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause === undefined ? error.message : `${error.message}: ${describe(error.cause)}`;
}
