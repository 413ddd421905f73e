/**
 * Who sends a request, as far as a limit is concerned.
 *
 * @module
 */
import { isIP } from "node:net";

/** Names the client of a request, by its headers and what the server tells of its connection. */
export type Client = (headers: Headers, connection: unknown) => string;

/** What the server tells of a connection beside the request. */
interface Connection {
  readonly remoteAddr?: { readonly hostname?: string };
}

/** A client's part of an IPv6 address: a network of 64 bits is one household or one machine. */
const IPV6_GROUPS = 4;

/** An identifier that a proxy makes up (RFC 7239, section 6.3). */
const OBFUSCATED = /^_[\w.-]+$/;
/** An address, in brackets or not, and its port, which may be made up as well. */
const NODE = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::[\w.-]+)?$/;
/** One pair of `Forwarded` and what ends it. Strict: a quote that stays open could hide what follows. */
const PAIR = /[ \t]*(?:([\w!#$%&'*+.^`|~-]+)=("(?:\\.|[^"\\])*"|[^\s",;]+))?[ \t]*([;,]|$)/y;

/**
 * The client is the address that the connection comes from or, behind `trustedProxies`, the one that the
 * outermost of them saw: counted from the right, for what stands before may be made up. Where both
 * `X-Forwarded-For` and `Forwarded` come, they must agree, for proxies write one and pass the other on.
 *
 * @param onUnreadable Told each time that proxies are trusted and their word cannot be read. All such
 *   requests count as the proxy's own.
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

/** The `for` of each element. None, if the header is malformed anywhere. */
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

/** The address in a node as RFC 7239 and its predecessors write it; `undefined`: there is none. */
function addressOf(node: string): string | undefined {
  const text = node.trim().replace(/^"(.*)"$/s, "$1").replace(/\\(.)/gs, "$1");
  const [, bracketed, plain] = NODE.exec(text) ?? [];
  const address = bracketed ?? plain ?? text;
  return isIP(address) > 0 || OBFUSCATED.test(address) ? address : undefined;
}

function networkOf(address: string): string {
  if (isIP(address) !== 6) return address;
  const text = address.replace(/%.*$/, "");
  // As IPv4 over IPv6: without this, all of them were one network.
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(text);
  if (mapped?.[1] !== undefined) return mapped[1];
  const [head = "", tail] = new URL(`http://[${text}]`).hostname.slice(1, -1).split("::");
  const groups = (part: string) => part === "" ? [] : part.split(":");
  const [first, last] = [groups(head), groups(tail ?? "")];
  const zeros = tail === undefined ? 0 : 8 - first.length - last.length;
  const all = [...first, ...Array<string>(zeros).fill("0"), ...last];
  return `${all.slice(0, IPV6_GROUPS).join(":")}::/64`;
}
