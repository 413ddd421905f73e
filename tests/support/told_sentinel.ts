import type { Buffer } from "node:buffer";
import { createServer, type Server, type Socket } from "node:net";
import type { AddressInfo } from "node:net";
import { once } from "node:events";

/** What a {@linkcode ToldSentinel} answers. Every server is on loopback. */
export interface Told {
  /** The port of the server that it names as the primary. */
  named: number;
  /** The port of the server that it describes: at the leader of a failover for a while still the one before. */
  described?: number;
  /** The configuration epoch. */
  epoch: number;
  /** Time for which that server has reported its role. */
  reportedMs: number;
  /** The port of another Sentinel. */
  other?: number;
}

/** A Sentinel that answers what a test tells it to. */
export class ToldSentinel implements AsyncDisposable {
  /** What it answers from now on; `undefined`: it does not answer. */
  told: Told | undefined;
  /** How many questions it has answered. */
  answered = 0;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  /** Use {@linkcode startToldSentinel}. */
  constructor(server: Server, told: Told | undefined) {
    this.#server = server;
    this.told = told;
    server.on("connection", (socket) => {
      this.#sockets.add(socket);
      // Clients of such a server leave in every way there is; which one is of no interest.
      socket.on("error", () => undefined);
      socket.on("close", () => this.#sockets.delete(socket));
      let received = "";
      socket.on("data", (bytes: Buffer) => {
        received += bytes.toString("latin1");
        for (let at = endOf(received); at > 0; at = endOf(received)) {
          socket.write(this.#answer(received.slice(0, at)));
          received = received.slice(at);
        }
      });
    });
  }

  /** Its address. */
  get address(): { readonly host: string; readonly port: number } {
    return { host: "127.0.0.1", port: (this.#server.address() as AddressInfo).port };
  }

  /** Ends every connection, and listens no more. */
  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#server, "close");
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  #answer(command: string): string {
    if (this.told === undefined) return "";
    const { named, described = named, epoch, reportedMs, other } = this.told;
    if (/GET-MASTER-ADDR/i.test(command)) return listOf(["127.0.0.1", named]);
    if (/\r\nMASTER\r\n/i.test(command)) {
      const role = ["role-reported-time", reportedMs, "config-epoch", epoch];
      return listOf(["ip", "127.0.0.1", "port", described, ...role]);
    }
    if (!/SENTINELS/i.test(command)) return "+OK\r\n";
    this.answered++;
    if (other === undefined) return listOf([]);
    return `*1\r\n${listOf(["ip", "127.0.0.1", "port", other, "flags", "sentinel"])}`;
  }
}

/** Starts a Sentinel that answers what it is told. */
export async function startToldSentinel(told: Told | undefined, port = 0): Promise<ToldSentinel> {
  const server = createServer();
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  return new ToldSentinel(server, told);
}

function listOf(items: readonly (string | number)[]): string {
  const bulks = items.map(String).map((item) => `$${item.length}\r\n${item}\r\n`);
  return `*${items.length}\r\n${bulks.join("")}`;
}

/** The length of the first command, an array of texts; 0: it is not complete. */
function endOf(received: string): number {
  const lines = received.split("\r\n");
  const count = 1 + 2 * Number(lines[0]?.slice(1) || Infinity);
  return lines.length <= count ? 0 : lines.slice(0, count).join("\r\n").length + 2;
}
