/**
 * A process that must end with its parent, because it would keep the port.
 *
 * @module
 */

/** Argument of a program that ends with its parent. */
export const WITH_PARENT = "--with-parent";

/** Interval at which a process checks that its parent is there; there is no signal for a killed parent. */
const POLL_MS = 250;

/** Calls `onGone` once the parent of this process is gone. */
export function watchParent(onGone: () => void): Disposable {
  const parent = Deno.ppid;
  const timer = setInterval(() => {
    if (Deno.ppid === parent) return;
    clearInterval(timer);
    onGone();
  }, POLL_MS);
  Deno.unrefTimer(timer);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}
