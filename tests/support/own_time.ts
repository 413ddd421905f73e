const STEP_MS = 5;

/**
 * A clock that stands still while this process is busy or suspended. Bounds on what a call may wait for hold by it on
 * any machine.
 */
export function ownTime(): Disposable & { readonly now: () => number } {
  let ms = 0;
  const timer = setInterval(() => ms += STEP_MS, STEP_MS);
  return { now: () => ms, [Symbol.dispose]: () => clearInterval(timer) };
}
