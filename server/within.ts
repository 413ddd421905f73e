/** Answers the result of `work`, or `late` after `timeoutMs`. A failure is passed on. */
export async function within<T, Late>(
  timeoutMs: number,
  work: Promise<T>,
  late: Late,
): Promise<T | Late> {
  const over = Promise.withResolvers<Late>();
  const timer = setTimeout(() => over.resolve(late), timeoutMs);
  try {
    return await Promise.race([work, over.promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** Answers true if `work` settles in time. A failure is passed on. */
export function doneWithin(timeoutMs: number, work: Promise<unknown>): Promise<boolean> {
  return within(timeoutMs, work.then(() => true), false);
}
