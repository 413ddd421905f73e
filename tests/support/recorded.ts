import { configure, getLogger, type LogRecord, reset } from "@logtape/logtape";

/** Runs with a logger whose records are kept. */
export async function recorded(
  run: (logger: ReturnType<typeof getLogger>) => void,
): Promise<LogRecord[]> {
  const records: LogRecord[] = [];
  await configure({
    sinks: { kept: (record) => records.push(record) },
    loggers: [
      { category: "lookaside", lowestLevel: "debug", sinks: ["kept"] },
      { category: ["logtape", "meta"], lowestLevel: "warning", sinks: ["kept"] },
    ],
  });
  try {
    run(getLogger("lookaside"));
  } finally {
    await reset();
  }
  return records;
}
