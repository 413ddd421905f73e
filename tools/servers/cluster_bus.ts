import { type ProxyObserver, startTcpProxy, type TcpProxy } from "./tcp_proxy.ts";

/** Where a message names the node that sent it (`clusterMsg` in the `cluster.h` of Redis). */
const SENDER = { from: 40, to: 80 };

/** A server on the bus. */
interface Stop {
  readonly proxy: TcpProxy;
  readonly busPort: number;
}

/**
 * The bus on which the servers of a cluster talk to each other, through a proxy in front of each of them:
 * so one can be cut off from the others and from nobody else. On loopback they cannot be told apart by
 * their addresses, so who has connected is read from the first message.
 */
export class ClusterBus implements AsyncDisposable {
  readonly #stops = new Map<number, Stop>();
  #cutOff: { readonly port: number; readonly nodeId: string } | undefined;

  /** Starts the proxy of the server on `port`, which is to listen on `busPort`. Answers what it is to announce. */
  open(port: number, busPort: number): number {
    const proxy = startTcpProxy(busPort, { observe: () => this.#observe(port) });
    this.#stops.set(port, { proxy, busPort });
    return proxy.port;
  }

  /** Drops all that a server sends to others, and they to it. */
  cutOff(port: number, nodeId: string): void {
    this.#cutOff = { port, nodeId };
  }

  /** Connects all with all. */
  heal(): void {
    this.#cutOff = undefined;
    // What was forwarded may have ended in the middle of a message.
    for (const { proxy, busPort } of this.#stops.values()) proxy.redirect(busPort);
  }

  /** Ends every proxy. */
  async [Symbol.asyncDispose](): Promise<void> {
    const proxies = [...this.#stops.values()].map(({ proxy }) => proxy);
    await Promise.all(proxies.map((proxy) => proxy[Symbol.asyncDispose]()));
  }

  /** Sees who sends to the server on `port`. */
  #observe(port: number): ProxyObserver {
    const head = new Uint8Array(SENDER.to);
    let length = 0;
    let sender = "";
    return {
      sent: (chunk) => {
        if (length === SENDER.to) return;
        const part = chunk.subarray(0, SENDER.to - length);
        head.set(part, length);
        length += part.length;
        if (length < SENDER.to) return;
        sender = new TextDecoder().decode(head.subarray(SENDER.from, SENDER.to));
      },
      received: () => {},
      closed: () => {},
      drops: () => {
        const cutOff = this.#cutOff;
        return cutOff !== undefined && (cutOff.port === port || cutOff.nodeId === sender);
      },
    };
  }
}
