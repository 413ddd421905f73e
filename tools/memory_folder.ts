import { existsSync } from "node:fs";
import { statfs } from "node:fs/promises";

/** The file system that Linux keeps in memory. */
const SHARED_MEMORY = "/dev/shm";

/** Four times as much as all databases that a suite has at a time. */
const FREE_BYTES_MIN = 1024 ** 3;

/** The rest is for everything else. */
const AVAILABLE_BYTES_MIN = 3 * FREE_BYTES_MIN;

/**
 * A folder in memory, if this machine has one and memory to spare. A database is 300 files, whose creation takes up
 * to ten times as long on a disk.
 */
export async function memoryFolder(): Promise<string | undefined> {
  if (!existsSync(SHARED_MEMORY)) return undefined;
  if (Deno.systemMemoryInfo().available < AVAILABLE_BYTES_MIN) return undefined;
  const { bavail, bsize } = await statfs(SHARED_MEMORY);
  return bavail * bsize < FREE_BYTES_MIN ? undefined : SHARED_MEMORY;
}
