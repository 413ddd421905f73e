import { type ProxyObserver, startTcpProxy, type TcpProxy } from "./tcp_proxy.ts";

/** The position of the sender's id in a message (`clusterMsg` in the `cluster.h` of Redis). */
const SENDER = { from: 40, to: 80 };

/** A server on the bus. */
interface Stop {
  readonly proxy: TcpProxy;
  readonly busPort: number;
}

/**
 * The bus between the servers of a cluster, through a proxy in front of each of them, so that one can be cut off
 * from the others but not from clients. On loopback their addresses do not identify them, so the sender is read
 * from the first message.
 */
export class ClusterBus implements AsyncDisposable {
  readonly #stops = new Map<number, Stop>();
  #cutOff: { readonly port: number; readonly nodeId: string } | undefined;

  /**
   * Starts the proxy of the server on `port`, which will listen on `busPort`. Answers the port for it to announce.
   */
  open(port: number, busPort: number): number {
    const proxy = startTcpProxy(busPort, { observe: () => this.#observe(port) });
    this.#stops.set(port, { proxy, busPort });
    return proxy.port;
  }

  /** Drops all messages between a server and the others. */
  cutOff(port: number, nodeId: string): void {
    this.#cutOff = { port, nodeId };
  }

  /** Connects all with all. */
  heal(): void {
    this.#cutOff = undefined;
    // A connection may have been interrupted in the middle of a message.
    for (const { proxy, busPort } of this.#stops.values()) proxy.redirect(busPort);
  }

  /** Ends every proxy. */
  async [Symbol.asyncDispose](): Promise<void> {
    const proxies = [...this.#stops.values()].map(({ proxy }) => proxy);
    await Promise.all(proxies.map((proxy) => proxy[Symbol.asyncDispose]()));
  }

  /** Observes who sends to the server on `port`. */
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
