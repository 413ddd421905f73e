import { setTimeout as delay } from "node:timers/promises";

/** What became of the requests of a {@linkcode startConnectionLoad}. */
export interface ConnectionLoadResult {
  /** Answered on a connection of their own. */
  readonly fresh: number;
  /** Answered on a connection that is used again and again. */
  readonly kept: number;
  /** How often an answer asked for a new connection. */
  readonly toldToClose: number;
  /** How long the slowest took, in milliseconds. */
  readonly slowestMs: number;
  /** What failed, and how, in the order it did. */
  readonly failures: readonly string[];
}

/** Requests over connections that are seen one by one, unlike those of `fetch`. */
export interface ConnectionLoad extends AsyncDisposable {
  /** What became of the requests so far. */
  readonly result: ConnectionLoadResult;
  /** Sends no more and waits for those under way. */
  stop(): Promise<ConnectionLoadResult>;
}

/**
 * Rest of a client after each answer: so the processes under test have the processor, and a connection that is kept
 * is also closed while nothing is under way on it.
 */
const REST_MS = 5;

/** Options of {@linkcode startConnectionLoad}. */
export interface ConnectionLoadOptions {
  /** Where the service listens, on loopback. */
  readonly port: number;
  /** The path of the n-th request. */
  readonly path: (n: number) => string;
  /** Sent by PATCH; without it, requests are GET. */
  readonly body?: string;
  /** Clients that open a connection for each request. */
  readonly fresh: number;
  /** Clients that keep theirs. */
  readonly kept: number;
}

/**
 * Sends requests that are never sent twice: every one that was not answered in full with 200 is a
 * failure, on whatever connection, whatever a client of HTTP would make of it.
 */
export function startConnectionLoad(options: ConnectionLoadOptions): ConnectionLoad {
  const { port, path, body } = options;
  const result = { fresh: 0, kept: 0, toldToClose: 0, slowestMs: 0, failures: [] as string[] };
  let stopped = false;
  let sent = 0;

  async function run(kind: "fresh" | "kept"): Promise<void> {
    let connection: Deno.TcpConn | undefined;
    let uses = 0;
    while (!stopped) {
      const startedAtMs = performance.now();
      let doing = "connect";
      try {
        connection ??= await Deno.connect({ hostname: "127.0.0.1", port });
        doing = uses++ === 0 ? "first request" : "later request";
        const head = await ask(connection, requestOf(path(sent++), body));
        result[kind]++;
        const told = /^connection: close\r$/im.test(head);
        if (told) result.toldToClose++;
        if (told || kind === "fresh") connection = closed(connection);
      } catch (error) {
        const { name, message } = error instanceof Error ? error : new Error(String(error));
        result.failures.push(`${kind}, ${doing}: ${name} ${message}`);
        connection = closed(connection);
      }
      if (connection === undefined) uses = 0;
      result.slowestMs = Math.max(result.slowestMs, performance.now() - startedAtMs);
      await delay(REST_MS);
    }
    closed(connection);
  }

  const clients = Promise.all([
    ...Array.from({ length: options.fresh }, () => run("fresh")),
    ...Array.from({ length: options.kept }, () => run("kept")),
  ]);
  const stop = async () => {
    stopped = true;
    await clients;
    return result;
  };
  return {
    result,
    stop,
    async [Symbol.asyncDispose]() {
      await stop();
    },
  };
}

function requestOf(path: string, body: string | undefined): Uint8Array {
  const lines = body === undefined ? [`GET ${path} HTTP/1.1`] : [
    `PATCH ${path} HTTP/1.1`,
    "content-type: application/json",
    `content-length: ${new TextEncoder().encode(body).length}`,
  ];
  return new TextEncoder().encode([...lines, "host: localhost", "", body ?? ""].join("\r\n"));
}

/** Sends one request, reads the whole answer and gives its head. */
async function ask(connection: Deno.TcpConn, request: Uint8Array): Promise<string> {
  for (let sent = 0; sent < request.length;) sent += await connection.write(request.subarray(sent));
  const decoder = new TextDecoder();
  const buffer = new Uint8Array(16_384);
  let bytes = 0;
  let text = "";
  for (;;) {
    const size = await connection.read(buffer);
    if (size === null) {
      throw new Error(bytes === 0 ? "closed before an answer" : "closed in mid-answer");
    }
    bytes += size;
    text += decoder.decode(buffer.subarray(0, size), { stream: true });
    const end = text.indexOf("\r\n\r\n");
    if (end < 0) continue;
    const head = text.slice(0, end + 2);
    const length = Number(/^content-length: (\d+)\r$/im.exec(head)?.[1]);
    if (bytes < end + 4 + length) continue;
    if (!head.startsWith("HTTP/1.1 200 ")) throw new Error(text);
    return head;
  }
}

function closed(connection: Deno.TcpConn | undefined): undefined {
  connection?.close();
}
