/**
 * Processor time of processes, as Linux counts it.
 *
 * @module
 */

/** A hundredth of a second, on every Linux there is. */
const TICK_MS = 10;

/** Processor time that a process has taken, in milliseconds; 0: it has ended. */
export function processorMs(pid: number): number {
  try {
    const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
    // Behind the name, which may have spaces in it.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return 0;
    throw error;
  }
}

/** The sum over processes. */
export function processorMsOf(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => sum + processorMs(pid), 0);
}
