import type { WireRequest } from "./wire.ts";

/** A change of a user, as recorded in the database or reported by an answer. */
export interface UserChange {
  /** `INSERT`, `UPDATE` or `DELETE`. */
  readonly op: string;
  /** The user. */
  readonly id: number;
  /** Absent for a deletion. */
  readonly name?: string | null;
  /** Absent for a deletion. */
  readonly email?: string | null;
  /** Absent for a deletion. */
  readonly bio?: string | null;
}

const OPS: Readonly<Record<string, string>> = {
  POST: "INSERT",
  PUT: "UPDATE",
  PATCH: "UPDATE",
  DELETE: "DELETE",
};

const INT_MAX = 2_147_483_647;

/**
 * The change of a user that a request asks for, by its method and path; `undefined`: none. All rules here are
 * written from the contract, without the code under test.
 */
export function writeOf({ method, target }: WireRequest): { op: string; id?: string } | undefined {
  const { pathname } = new URL(`http://localhost${target}`);
  const [found, segment] = /^\/users(?:\/([^/]*))?$/.exec(pathname) ?? [];
  const op = OPS[method];
  if (found === undefined || op === undefined) return undefined;
  return segment === undefined ? { op } : { op, id: decoded(segment) };
}

/** True if a request passes validation and may change a user. */
export function mayWrite(request: WireRequest): boolean {
  const write = writeOf(request);
  if (write === undefined) return false;
  if (request.method === "POST" ? write.id !== undefined : !isUserId(write.id ?? "")) return false;
  return request.method === "DELETE" || isWritable(request);
}

/** True if a change leaves a row that the contract permits. */
export function isValidChange({ op, id, name, email, bio }: UserChange): boolean {
  if (!Number.isInteger(id) || id < 1 || id > INT_MAX) return false;
  if (op === "DELETE") return true;
  return isShort(name) && isShort(email) && isEmail(email) && (bio === null || isStorable(bio));
}

/** True if a valid request makes this Redis key. */
export function isKnownKey(prefix: string, key: string): boolean {
  const [, version, name = "", part = ""] = /^([0-9]+):(?:lease:)?\{([^{}]*)\}(|:[a-z-]+)$/.exec(
    key.startsWith(`${prefix}:`) ? key.slice(prefix.length + 1) : "",
  ) ?? [];
  if (version === undefined) return false;
  if (part === ":tag") {
    return ["*", "users:*", "users:any"].includes(name) || isUserId(name.replace(/^users:/, ""));
  }
  if (part !== "") return name === "*"; // the cache's own records
  return isKnownName(name);
}

/** True if a valid request makes this logical key. */
export function isKnownName(name: string): boolean {
  const [, id] = /^users:([^/].*)$/.exec(name) ?? [];
  if (id !== undefined) return isUserId(id);
  const [, by, from = "", limit = ""] =
    /^users:\/(page|after)=([0-9]+)&limit=([0-9]+)$/.exec(name) ??
      [];
  if (by === undefined || !isUserId(limit) || Number(limit) > 100) return false;
  return isUserId(from) || (by === "after" && from === "0");
}

function isUserId(text: string): boolean {
  return /^[1-9][0-9]{0,9}$/.test(text) && Number(text) <= INT_MAX;
}

function isWritable({ method, headers, body }: WireRequest): boolean {
  const all = (name: string) => headers.filter(([each]) => each === name).map(([, value]) => value);
  if (!/^application\/json\b/i.test(all("content-type")[0] ?? "")) return false;
  if (all("content-encoding").some((value) => value !== "identity")) return false;
  if (body.length > 64 * 1024) return false;
  let fields: unknown;
  try {
    fields = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
  } catch {
    return false; // not JSON in UTF-8
  }
  if (typeof fields !== "object" || fields === null || Array.isArray(fields)) return false;
  const given = new Map(Object.entries(fields));
  const complete = method === "PATCH" ? given.size > 0 : given.has("name") && given.has("email");
  return complete && [...given].every(([name, value]) => {
    if (name === "bio") return value === null || isStorable(value);
    return name === "name" ? isShort(value) : name === "email" && isShort(value) && isEmail(value);
  });
}

function isStorable(value: unknown): value is string {
  return typeof value === "string" && value.isWellFormed() && !value.includes("\0");
}

function isShort(value: unknown): value is string {
  return isStorable(value) && value !== "" && [...value].length <= 100;
}

/** True for a text, one `@`, and a text with a dot in it, without spaces. */
function isEmail(value: unknown): boolean {
  return typeof value === "string" && /^[^\s@]+@[^\s@]+\.[^\s@]+$/.test(value);
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // invalid escapes
  }
}
