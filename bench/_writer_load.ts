/**
 * Writers: pgbench, which costs less itself than what it measures.
 *
 * @module
 */
import { join } from "node:path";
import { findPostgres } from "../tools/servers/postgres_server.ts";

/** Rows that writers choose among. */
export const ROWS = 100_000;

/** How writers write. */
export interface Load {
  /** Each updates one row at a time, by chance. */
  readonly table: string;
  /** How many write at once. */
  readonly clients: number;
  /** For how long. */
  readonly seconds: number;
  /** Updates a second of all together. Default: as many as they can. */
  readonly rate?: number;
}

/** Rows that were updated. */
export interface Updates {
  readonly count: number;
  readonly perSecond: number;
}

/** Updates rows, and answers how many. */
export async function update(
  url: string,
  { table, clients, seconds, rate }: Load,
): Promise<Updates> {
  const script = await Deno.makeTempFile({ prefix: "lookaside_pgbench_" });
  try {
    await Deno.writeTextFile(
      script,
      `\\set id random(1, ${ROWS})\nUPDATE ${table} SET name = 'N' WHERE id = :id;\n`,
    );
    const jobs = Math.min(clients, 2);
    const { code, stdout, stderr } = await new Deno.Command(
      join(await findPostgres(), "pgbench"),
      {
        args: [
          ...["--no-vacuum", "--file", script, "--client", `${clients}`, "--jobs", `${jobs}`],
          ...["--time", `${seconds}`, ...(rate === undefined ? [] : ["--rate", `${rate}`])],
          url,
        ],
        env: { LC_ALL: "C" },
      },
    ).output();
    const found = /actually processed: (\d+)[^]*^tps = ([\d.]+)/m.exec(
      new TextDecoder().decode(stdout),
    );
    // It has no rate where nothing was done in time.
    if (code === 0) return { count: Number(found?.[1] ?? 0), perSecond: Number(found?.[2] ?? 0) };
    throw new Error(`Cannot write with pgbench: ${code} ${new TextDecoder().decode(stderr)}`);
  } finally {
    await Deno.remove(script);
  }
}
