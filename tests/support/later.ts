/**
 * What is awaited later: if its test fails before, its own rejection must neither hide why nor end the other tests of
 * the file.
 */
export function later<T>(work: Promise<T>): Promise<T> {
  work.catch(() => undefined);
  return work;
}
