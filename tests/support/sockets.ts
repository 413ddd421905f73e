/** Whether a process has a connection now that came in at a port. */
export function hasClientAt(port: number, pid: number): boolean {
  return hasSocketAt(port, pid, "01");
}

/** Whether a process takes connections at a port. */
export function listensAt(port: number, pid: number): boolean {
  return hasSocketAt(port, pid, "0A");
}

/** Whether a process has a socket in a state, as `/proc/net/tcp` writes it. */
function hasSocketAt(port: number, pid: number, state: "01" | "0A"): boolean {
  const inodes = Deno.readTextFileSync("/proc/net/tcp").split("\n").slice(1).flatMap((line) => {
    const fields = line.trim().split(/\s+/);
    const isOne = fields[3] === state &&
      Number.parseInt(fields[1]?.split(":")[1] ?? "", 16) === port;
    return isOne ? [`socket:[${fields[9]}]`] : [];
  });
  return [...Deno.readDirSync(`/proc/${pid}/fd`)].some(({ name }) => {
    try {
      return inodes.includes(Deno.readLinkSync(`/proc/${pid}/fd/${name}`));
    } catch {
      return false; // closed since it was listed
    }
  });
}
