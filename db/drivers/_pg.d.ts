/**
 * The parts of `pg` that the driver uses. The original types need those of Node, which contradict Deno's.
 *
 * @module
 */
import type { Duplex } from "node:stream";

/** The options of a client. */
export interface ClientConfig {
  readonly host?: string;
  readonly port?: number;
  readonly user?: string | undefined;
  readonly database?: string | undefined;
  readonly password?: string | (() => string);
  readonly ssl?: boolean | { readonly ca?: string; readonly rejectUnauthorized?: boolean };
  readonly sslnegotiation?: "postgres";
  readonly connectionTimeoutMillis?: number;
  readonly keepAlive?: boolean;
  readonly keepAliveInitialDelayMillis?: number;
  readonly types?: { getTypeParser(oid: number): (text: string) => unknown };
}

/** A statement. With a name it is prepared, once on each connection. */
export interface Statement {
  readonly text: string;
  readonly values?: unknown[];
  readonly name?: string | undefined;
}

/** The rows of a statement. */
export interface Result {
  readonly rows: unknown[];
}

/** The protocol of a client. */
export interface Connection {
  readonly stream: Duplex;
  on(
    event: "parameterStatus",
    listener: (status: { parameterName: string; parameterValue: string }) => void,
  ): this;
}

export declare class Client {
  constructor(config: ClientConfig);
  readonly connection: Connection;
  password: string | (() => string) | null;
  connect(callback: (error?: Error | null) => void): void;
  query(statement: Statement): Promise<Result | Result[]>;
  getStartupConf(): Record<string, string>;
  on(event: "error", listener: (error: Error) => void): this;
  on(event: "notification", listener: (notification: { payload: string }) => void): this;
  once(event: "end", listener: () => void): this;
}

/** A client that was taken out of a pool. */
export type Taken<C> = C & { release(isSpent: boolean): void };

export declare class Pool<C extends Client> {
  constructor(options: {
    readonly Client: new () => C;
    readonly max: number;
    readonly idleTimeoutMillis: number;
    readonly maxLifetimeSeconds: number;
  });
  readonly idleCount: number;
  readonly waitingCount: number;
  connect(): Promise<Taken<C>>;
  end(): Promise<void>;
  on(event: "error", listener: (error: Error) => void): this;
}

export declare class DatabaseError extends Error {
  readonly code?: string;
  readonly severity?: string;
  readonly routine?: string;
}

/** The default export of `pg`. */
declare const pg: {
  readonly Client: typeof Client;
  readonly Pool: typeof Pool;
  readonly DatabaseError: typeof DatabaseError;
  readonly types: { getTypeParser(oid: number, format: "text"): (text: string) => unknown };
};
export default pg;
