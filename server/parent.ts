/**
 * When a process must end: at a signal, and with its parent, because it would keep the port.
 *
 * @module
 */

/** Argument of a program that ends with its parent: whichever it has when it looks, or that of a process id. */
export const WITH_PARENT = "--with-parent";

/** Interval at which a process checks that its parent is there; there is no signal for a killed parent. */
const POLL_MS = 250;

/** Calls `onSignal` at each signal to stop. */
export function watchSignals(onSignal: () => void): Disposable {
  const signals = ["SIGTERM", "SIGINT", "SIGHUP"] as const;
  for (const signal of signals) Deno.addSignalListener(signal, onSignal);
  return {
    [Symbol.dispose]: () => signals.forEach((name) => Deno.removeSignalListener(name, onSignal)),
  };
}

/** The argument for a child of this process: it ends with it, also if this one ends before the child looks. */
export function withParent(): string {
  return `${WITH_PARENT}=${Deno.pid}`;
}

/**
 * Calls `onGone` once the parent that the arguments name is gone, if they name one. It may be gone already, when
 * this process has another parent.
 */
export function watchNamedParent(
  args: readonly string[],
  onGone: () => void,
): Disposable | undefined {
  const given = args.find((arg) => arg.startsWith(WITH_PARENT));
  if (given === undefined) return undefined;
  const [, parent] = given.split("=");
  return watchParent(onGone, parent === undefined ? Deno.ppid : Number(parent));
}

/** Calls `onGone` once the parent of this process is gone. */
export function watchParent(onGone: () => void, parent: number = Deno.ppid): Disposable {
  const timer = setInterval(() => {
    if (Deno.ppid === parent) return;
    clearInterval(timer);
    onGone();
  }, POLL_MS);
  Deno.unrefTimer(timer);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}
