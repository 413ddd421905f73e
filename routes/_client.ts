/**
 * Identifies the client of a request, for limits.
 *
 * @module
 */
import { expandIPv6 } from "hono/utils/ipaddr";
import { isIP } from "node:net";

/** Names the client of a request, by its headers and the server's description of its connection. */
export type Client = (headers: Headers, connection: unknown) => string;

/** The server's description of a connection. */
interface Connection {
  readonly remoteAddr?: { readonly hostname?: string };
}

/** The part of an IPv6 address that counts as one client: a 64-bit network is one household or machine. */
const IPV6_GROUPS = 4;

/** An identifier that a proxy has made up (RFC 7239, section 6.3). */
const OBFUSCATED = /^_[\w.-]+$/;
/** An address, with or without brackets, and its port, which may be made up as well. */
const NODE = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::[\w.-]+)?$/;
/** One pair of `Forwarded` and its end. Strict, because an unclosed quote could hide the rest. */
const PAIR = /[ \t]*(?:([\w!#$%&'*+.^`|~-]+)=("(?:\\.|[^"\\])*"|[^\s",;]+))?[ \t]*([;,]|$)/y;

/**
 * The client is the address of the connection or, behind `trustedProxies`, the address that the outermost of
 * them saw: counted from the right, because the rest may be forged. `X-Forwarded-For` and `Forwarded` must agree
 * if both are there, because proxies write one and pass the other on.
 *
 * @param onUnreadable Called each time that the headers of trusted proxies cannot be read. All such requests
 * count as the proxy's own.
 */
export function clients(trustedProxies: number, onUnreadable: () => void): Client {
  return (headers, connection) => {
    const address = (connection as Connection | undefined)?.remoteAddr?.hostname ?? "unknown";
    if (trustedProxies === 0) return networkOf(address);
    const seen = [forwardedFor(headers), forwarded(headers)].filter((nodes) => nodes !== undefined)
      .map((nodes) => addressOf(nodes.at(-trustedProxies) ?? ""));
    const [client] = seen;
    if (client !== undefined && seen.every((each) => each === client)) return networkOf(client);
    onUnreadable();
    return networkOf(address);
  };
}

function forwardedFor(headers: Headers): string[] | undefined {
  return headers.get("x-forwarded-for")?.split(",");
}

/** The `for` of each element. Empty if any part of the header is malformed. */
function forwarded(headers: Headers): string[] | undefined {
  const text = headers.get("forwarded");
  if (text === null) return undefined;
  const nodes = [""];
  PAIR.lastIndex = 0;
  while (PAIR.lastIndex < text.length) {
    const [, name, value = "", end] = PAIR.exec(text) ?? [];
    if (end === undefined) return [];
    if (name?.toLowerCase() === "for") nodes[nodes.length - 1] = value;
    if (end === ",") nodes.push("");
  }
  return nodes;
}

/** The address in a node as in RFC 7239 and its predecessors; `undefined`: there is none. */
function addressOf(node: string): string | undefined {
  const text = node.trim().replace(/^"(.*)"$/s, "$1").replace(/\\(.)/gs, "$1");
  const [, bracketed, plain] = NODE.exec(text) ?? [];
  const address = bracketed ?? plain ?? text;
  return isIP(address) > 0 || OBFUSCATED.test(address) ? address : undefined;
}

function networkOf(address: string): string {
  if (isIP(address) !== 6) return address;
  const text = address.replace(/%.*$/, "").toLowerCase();
  // IPv4 within IPv6; otherwise all such clients would share one network.
  const [, mapped] = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/.exec(text) ?? [];
  if (mapped !== undefined) return mapped;
  const groups = expandIPv6(text).split(":").slice(0, IPV6_GROUPS);
  return `${groups.map((group) => group.replace(/^0+(?=.)/, "")).join(":")}::/64`;
}
