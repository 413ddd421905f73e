import { assertEquals } from "@std/assert";
import { eventually } from "../../tools/servers/eventually.ts";

interface Process {
  readonly pid: number;
  readonly parent: number;
  readonly state: string;
}

/** The processes below one, however deep. */
export async function descendantsOf(pid: number): Promise<number[]> {
  const processes = await runningProcesses();
  const found = [pid];
  for (const parent of found) {
    found.push(...processes.filter((each) => each.parent === parent).map((each) => each.pid));
  }
  return found.slice(1);
}

/** Waits until all of these processes have ended. */
export async function assertAllEnd(pids: readonly number[]): Promise<void> {
  await eventually(async () => {
    const running = (await runningProcesses()).map(({ pid }) => pid);
    assertEquals(pids.filter((pid) => running.includes(pid)), []);
  }, { deadlineMs: 20_000 });
}

/** Zombies have ended; whether somebody has noticed is not our business. */
async function runningProcesses(): Promise<Process[]> {
  const { stdout } = await new Deno.Command("ps", { args: ["-eo", "pid=,ppid=,stat="] }).output();
  return new TextDecoder().decode(stdout).trim().split("\n").map((line) => {
    const [pid, parent, state = ""] = line.trim().split(/\s+/);
    return { pid: Number(pid), parent: Number(parent), state };
  }).filter(({ state }) => !state.startsWith("Z"));
}
