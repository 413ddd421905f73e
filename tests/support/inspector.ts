/**
 * What V8's inspector says of another process, which runs with `--inspect`.
 *
 * @module
 */
const ANSWERS_WITHIN_MS = 30_000;

/**
 * The bytes that a process's objects in use take: what is left after a full collection. What
 * `process.memoryUsage()` says instead is mostly garbage that has not been collected yet.
 *
 * Source: the Chrome DevTools Protocol, `HeapProfiler.collectGarbage` and `Runtime.getHeapUsage`.
 */
export async function liveHeapBytes(inspectorPort: number): Promise<number> {
  const list = await fetch(`http://127.0.0.1:${inspectorPort}/json/list`);
  const [{ webSocketDebuggerUrl }] = await list.json();
  const socket = new WebSocket(webSocketDebuggerUrl);
  try {
    await once(socket, "open");
    await ask(socket, "HeapProfiler.collectGarbage");
    const { usedSize } = await ask(socket, "Runtime.getHeapUsage");
    if (typeof usedSize !== "number") throw new Error("Cannot read what Runtime.getHeapUsage says");
    return usedSize;
  } finally {
    socket.close();
  }
}

async function ask(socket: WebSocket, method: string): Promise<Record<string, unknown>> {
  const answered = once(socket, "message");
  socket.send(JSON.stringify({ id: 1, method }));
  const { data } = await answered as MessageEvent<string>;
  const { result, error } = JSON.parse(data);
  if (error !== undefined) throw new Error(`Cannot ask for ${method}: ${error.message}`);
  return result;
}

function once(socket: WebSocket, type: "open" | "message"): Promise<Event> {
  const { promise, resolve, reject } = Promise.withResolvers<Event>();
  const failed = () => reject(new Error("Cannot speak with the inspector: it does not answer"));
  const timer = setTimeout(failed, ANSWERS_WITHIN_MS);
  socket.addEventListener(type, resolve, { once: true });
  socket.addEventListener("error", failed, { once: true });
  return promise.finally(() => clearTimeout(timer));
}
