/**
 * A process that is nothing without its parent, and would keep the port: it ends with it.
 *
 * @module
 */

/** Argument of a program that ends with its parent. */
export const WITH_PARENT = "--with-parent";

/** How often a process looks whether its parent is there: no signal tells of one that was killed. */
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
