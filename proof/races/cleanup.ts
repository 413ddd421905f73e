/** Closes resources, last opened first. Node 22 has neither `await using` nor `AsyncDisposableStack`. */
export class Cleanup {
  readonly #steps: (() => Promise<unknown>)[] = [];

  /** Adds a step, which runs before those that were added earlier. */
  defer(step: () => Promise<unknown>): void {
    this.#steps.push(step);
  }

  /** Closes a resource at the end, and answers it. */
  use<T extends AsyncDisposable>(opened: T): T {
    this.defer(async () => await opened[Symbol.asyncDispose]());
    return opened;
  }

  /** Runs every step, also after one has failed, and throws the first failure. */
  async run(): Promise<void> {
    const failures: unknown[] = [];
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      await step().catch((error: unknown) => failures.push(error));
    }
    if (failures.length > 0) throw failures[0];
  }
}

/** Uses a resource and closes it in any case. */
export async function using<T extends AsyncDisposable, R>(
  opened: T,
  use: (opened: T) => Promise<R>,
): Promise<R> {
  try {
    return await use(opened);
  } finally {
    await opened[Symbol.asyncDispose]();
  }
}
