/** A request as it goes over the wire. */
export interface WireRequest {
  /** The method, as written. */
  readonly method: string;
  /** The request target, as written. */
  readonly target: string;
  /** The header lines, as written. */
  readonly headers: readonly (readonly [string, string])[];
  readonly body: Uint8Array<ArrayBuffer>;
}

export interface WireAnswer {
  readonly status: number;
  /** The body, decoded. */
  readonly text: string;
}

/** Time limit of any operation. */
const ANSWER_MS_MAX = 5_000;

/** Time that a server has for bytes that may not be a whole request. */
const RAW_WAIT_MS = 40;

/** A request as bytes. A body is announced by its length. */
export function bytesOf({ method, target, headers, body }: WireRequest): Uint8Array<ArrayBuffer> {
  const length = body.length > 0 ? `content-length: ${body.length}\r\n` : "";
  const lines = headers.map(([name, value]) => `${name}: ${value}\r\n`).join("");
  const head = `${method} ${target} HTTP/1.1\r\nhost: localhost\r\n${lines}${length}\r\n`;
  const start = latin1(head);
  const bytes = new Uint8Array(start.length + body.length);
  bytes.set(start);
  bytes.set(body, start.length);
  return bytes;
}

/** A connection that is kept until the server closes it. */
export class WireClient implements Disposable {
  readonly #port: number;
  #connection: Deno.TcpConn | undefined;

  /** Connects with the first request. */
  constructor(port: number) {
    this.#port = port;
  }

  /**
   * Sends one request and reads its whole answer.
   *
   * @throws {Error} There was no answer in time.
   */
  async send(request: WireRequest): Promise<WireAnswer> {
    const connection = this.#connection ??= await connect(this.#port);
    using _limit = limit(connection, ANSWER_MS_MAX);
    try {
      await writeAll(connection, bytesOf(request));
      const { answer, keep } = await readAnswer(connection, request.method);
      if (!keep) this[Symbol.dispose]();
      return answer;
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Closes the connection. The next request opens another. */
  [Symbol.dispose](): void {
    close(this.#connection);
    this.#connection = undefined;
  }
}

/**
 * Sends bytes that may not be a request, waits a moment, closes its side, and reads until the server closes.
 * Answers the statuses that it sent, possibly none.
 *
 * @throws {Error} It did not close in time.
 */
export async function sendRaw(port: number, bytes: Uint8Array<ArrayBuffer>): Promise<number[]> {
  const connection = await connect(port);
  using _limit = limit(connection, ANSWER_MS_MAX);
  try {
    // A server may close before it has read all.
    const writing = writeAll(connection, bytes).catch(() => undefined);
    const quiet = setTimeout(() => connection.closeWrite().catch(() => undefined), RAW_WAIT_MS);
    let text = "";
    try {
      for await (const chunk of chunksOf(connection)) text += latin1Text(chunk);
    } catch (error) {
      const reset = error instanceof Deno.errors.ConnectionReset;
      if (!reset) throw new Error(`no end within ${ANSWER_MS_MAX} ms`, { cause: error });
    } finally {
      clearTimeout(quiet);
    }
    await writing;
    return [...text.matchAll(/HTTP\/1\.[01] (\d{3}) /g)].map(([, status]) => Number(status));
  } finally {
    close(connection);
  }
}

/** Text as bytes, one byte for each character; characters above 255 as UTF-8. */
export function latin1(text: string): Uint8Array<ArrayBuffer> {
  const wide = [...text].some((each) => (each.codePointAt(0) ?? 0) > 255);
  if (wide) return new TextEncoder().encode(text);
  return Uint8Array.from(text, (each) => each.charCodeAt(0));
}

function latin1Text(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return text;
}

async function connect(port: number): Promise<Deno.TcpConn> {
  return await Deno.connect({ hostname: "127.0.0.1", port });
}

function close(connection: Deno.TcpConn | undefined): void {
  try {
    connection?.close();
  } catch (error) {
    if (!(error instanceof Deno.errors.BadResource)) throw error; // the time limit has closed it
  }
}

/** Closes a connection after a time limit, which makes reading from it fail. */
function limit(connection: Deno.TcpConn, limitMs: number): Disposable {
  const timer = setTimeout(() => close(connection), limitMs);
  return { [Symbol.dispose]: () => clearTimeout(timer) };
}

async function writeAll(connection: Deno.TcpConn, bytes: Uint8Array): Promise<void> {
  for (let sent = 0; sent < bytes.length;) sent += await connection.write(bytes.subarray(sent));
}

async function* chunksOf(connection: Deno.TcpConn): AsyncGenerator<Uint8Array> {
  const buffer = new Uint8Array(64 * 1024);
  for (;;) {
    const size = await connection.read(buffer);
    if (size === null) return;
    yield buffer.subarray(0, size);
  }
}

async function readAnswer(
  connection: Deno.TcpConn,
  method: string,
): Promise<{ readonly answer: WireAnswer; readonly keep: boolean }> {
  let text = "";
  for await (const chunk of chunksOf(connection)) {
    text += latin1Text(chunk);
    const found = parseAnswer(text, method);
    if (found === undefined) continue;
    if (found.rest !== "") throw new Error(`more than an answer: ${found.rest.slice(0, 200)}`);
    return found;
  }
  throw new Error(`closed after ${JSON.stringify(text.slice(0, 200))}`);
}

/** The answer at the beginning of a text. `undefined`: it is incomplete. */
function parseAnswer(
  text: string,
  method: string,
): { readonly answer: WireAnswer; readonly keep: boolean; readonly rest: string } | undefined {
  const end = text.indexOf("\r\n\r\n");
  if (end < 0) return undefined;
  const head = text.slice(0, end + 2);
  const rest = text.slice(end + 4);
  const status = Number(/^HTTP\/1\.[01] (\d{3}) /.exec(head)?.[1] ?? NaN);
  if (Number.isNaN(status)) throw new Error(`no answer: ${JSON.stringify(head.slice(0, 200))}`);
  if (status < 200) return parseAnswer(rest, method);
  const keep = !/^connection: close\r$/im.test(head);
  // A stream does not end.
  const stream = /^content-type: text\/event-stream/im.test(head);
  const empty = method === "HEAD" || status === 204 || status === 304 || stream;
  if (empty) {
    return { answer: { status, text: "" }, keep: keep && !stream, rest: stream ? "" : rest };
  }
  if (/^transfer-encoding: chunked\r$/im.test(head)) {
    const body = dechunk(rest);
    return body && { answer: { status, text: utf8(body.text) }, keep, rest: body.rest };
  }
  const length = Number(/^content-length: (\d+)\r$/im.exec(head)?.[1] ?? NaN);
  if (Number.isNaN(length)) throw new Error(`a body without an end: ${head}`);
  if (rest.length < length) return undefined;
  const body = utf8(rest.slice(0, length));
  return { answer: { status, text: body }, keep, rest: rest.slice(length) };
}

function dechunk(text: string): { readonly text: string; readonly rest: string } | undefined {
  let body = "";
  for (let at = 0;;) {
    const end = text.indexOf("\r\n", at);
    if (end < 0) return undefined;
    const size = Number.parseInt(text.slice(at, end), 16);
    if (text.length < end + 2 + size + 2) return undefined;
    body += text.slice(end + 2, end + 2 + size);
    at = end + 2 + size + 2;
    if (size === 0) return { text: body, rest: text.slice(at) };
  }
}

function utf8(text: string): string {
  return new TextDecoder().decode(Uint8Array.from(text, (each) => each.charCodeAt(0)));
}
