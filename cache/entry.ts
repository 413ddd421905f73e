/**
 * The entry: a value with its times and tags, how long it lives, and its wire format: a small header, then the
 * payload as it was loaded.
 *
 * ```text
 * byte  0      format (1)
 * byte  1      codec (0: UTF-8 JSON, 1: raw deflate), plus 0x80 for a negative entry
 * bytes 2..9   loadedAtMs     float64, wall clock
 * bytes 10..17 freshUntilMs   float64, wall clock
 * bytes 18..25 staleUntilMs   float64, wall clock: the end of the grace
 * bytes 26..29 costMs         float32, what the load cost
 * byte  30     number of tags
 * bytes 31..34 length of the payload  uint32
 * then per tag: length of name (uint16), name, length of version (uint16), version (UTF-8)
 * then the payload, to the last byte: cut short or run on, it is not an entry
 * ```
 *
 * Everything here is pure: randomness is an argument. Bytes that cannot be parsed do not throw: {@linkcode
 * decodeEntry} answers the reason, and the caller counts a miss.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { deflateRawSync, inflateRawSync } from "node:zlib";

/** The format that this code writes. An older release must treat a newer format as a miss. */
export const FORMAT = 1;

const HEADER_BYTES = 35;
const CODEC_JSON = 0;
const CODEC_DEFLATE = 1;
/** The first that looks for repetitions well: level 1 leaves up to a third more on some runtimes, level 3 saves 2 %. */
const DEFLATE_LEVEL = 2;
const NEGATIVE_FLAG = 0x80;
/** The most tags an entry may carry besides the root tag. */
export const TAGS_MAX = 16;
/** The most code units of a text that is written in place, in three bytes of room for each. */
const SHORT_LENGTH_MAX = 2_048;
/** A payload that inflates past this is refused, which bounds what stored bytes can allocate. */
const PAYLOAD_BYTES_MAX = 64 * 1024 * 1024;

/** A tag and the version of it that was seen before the load. */
export interface TagVersion {
  /** The tag's name. */
  readonly name: string;
  /** Its version at that time. */
  readonly version: string;
}

/** An entry in memory. Times are wall-clock milliseconds. */
export interface Entry {
  /** The value as JSON, or `null` for a negative entry. */
  readonly text: string | null;
  /** The time at which the load ended. */
  readonly loadedAtMs: number;
  /** The end of its fresh life. */
  readonly freshUntilMs: number;
  /** The end of its grace; equal to `freshUntilMs` without one. */
  readonly staleUntilMs: number;
  /** Duration of the load, in milliseconds. */
  readonly costMs: number;
  /** The tags it carries, the cache's root tag first. */
  readonly tags: readonly TagVersion[];
}

/**
 * Writes an entry.
 *
 * @param compressBytesMin Payloads of at least this many bytes are compressed if that makes them smaller.
 */
export function encodeEntry(entry: Entry, compressBytesMin: number): Buffer {
  const { payload, codec } = payloadOf(entry.text ?? "", compressBytesMin);
  let bytesMax = HEADER_BYTES + bytesMaxOf(payload);
  for (const tag of entry.tags) bytesMax += 4 + bytesMaxOf(tag.name) + bytesMaxOf(tag.version);
  const bytes = Buffer.allocUnsafe(bytesMax);
  bytes[0] = FORMAT;
  bytes[1] = codec | (entry.text === null ? NEGATIVE_FLAG : 0);
  bytes.writeDoubleLE(entry.loadedAtMs, 2);
  bytes.writeDoubleLE(entry.freshUntilMs, 10);
  bytes.writeDoubleLE(entry.staleUntilMs, 18);
  bytes.writeFloatLE(entry.costMs, 26);
  bytes[30] = entry.tags.length;
  let offset = HEADER_BYTES;
  for (const tag of entry.tags) {
    offset = writeShort(bytes, tag.name, offset);
    offset = writeShort(bytes, tag.version, offset);
  }
  const payloadBytes = typeof payload === "string"
    ? bytes.write(payload, offset)
    : payload.copy(bytes, offset);
  bytes.writeUInt32LE(payloadBytes, 31);
  return bytes.subarray(0, offset + payloadBytes);
}

/**
 * Reads an entry, or answers the reason why it cannot be read. Never throws.
 *
 * @returns The entry, or a short reason such as `"truncated"` or `"format 9"`.
 */
export function decodeEntry(stored: Uint8Array): Entry | string {
  const bytes = stored instanceof Buffer
    ? stored
    : Buffer.from(stored.buffer, stored.byteOffset, stored.byteLength);
  if (bytes.length < HEADER_BYTES) return "truncated";
  if (bytes[0] !== FORMAT) return `format ${bytes[0]}`;
  const flags = bytes.readUInt8(1);
  const codec = flags & ~NEGATIVE_FLAG;
  const negative = (flags & NEGATIVE_FLAG) !== 0;
  if (codec !== CODEC_JSON && codec !== CODEC_DEFLATE) return `codec ${codec}`;
  const tags: TagVersion[] = [];
  let offset = HEADER_BYTES;
  const tagsCount = bytes.readUInt8(30);
  if (tagsCount > 1 + TAGS_MAX) return "too many tags";
  for (let i = 0; i < tagsCount; i++) {
    const name = readShort(bytes, offset);
    const version = name && readShort(bytes, name.end);
    if (name === undefined || version === undefined) return "truncated";
    tags.push({ name: name.text, version: version.text });
    offset = version.end;
  }
  if (bytes.length - offset !== bytes.readUInt32LE(31)) return "truncated";
  const loadedAtMs = bytes.readDoubleLE(2);
  const freshUntilMs = bytes.readDoubleLE(10);
  const staleUntilMs = bytes.readDoubleLE(18);
  const costMs = bytes.readFloatLE(26);
  if (!Number.isFinite(loadedAtMs + freshUntilMs + staleUntilMs + costMs)) return "times";
  const text = negative ? null : payloadText(bytes, offset, codec);
  if (text === undefined) return "payload";
  return { text, loadedAtMs, freshUntilMs, staleUntilMs, costMs, tags };
}

/**
 * The mark of a stored entry: its load time and fresh-until time, as they stand in the header. {@linkcode
 * ACQUIRE_LUA} and {@linkcode TAKE_LUA} read them in place.
 */
export function storedMark(stored: Uint8Array): Uint8Array {
  return stored.subarray(2, 18);
}

/** The mark of a decoded entry, equal to that of its stored bytes. */
export function entryMark(entry: Entry): Uint8Array {
  const mark = Buffer.allocUnsafe(16);
  mark.writeDoubleLE(entry.loadedAtMs, 0);
  mark.writeDoubleLE(entry.freshUntilMs, 8);
  return mark;
}

/**
 * Spreads a TTL so that entries filled together do not expire together.
 *
 * @param random Uniform in [0, 1).
 * @returns A TTL in `[ttlMs * (1 - ratio), ttlMs * (1 + ratio))`, at least 1 ms.
 *
 * @example
 * ```ts
 * import { jitteredTtlMs } from "./entry.ts";
 *
 * console.assert(jitteredTtlMs(1_000, 0.1, 0.5) === 1_000);
 * console.assert(jitteredTtlMs(1_000, 0.1, 0) === 900);
 * ```
 */
export function jitteredTtlMs(ttlMs: number, ratio: number, random: number): number {
  return Math.max(1, Math.round(ttlMs * (1 + ratio * (2 * random - 1))));
}

/**
 * The time before its expiry at which an entry is refreshed: the exponential gap of XFetch, `-cost * beta *
 * ln(random)`, from Vattani, Chierichetti and Lowenstein, "Optimal Probabilistic Cache Stampede Prevention"
 * (VLDB 2015). Costly loads are refreshed earlier; `beta` 0 turns it off.
 *
 * A reader refreshes if `now + gap >= freshUntil`. The gap is drawn for each read of Redis, but once for each
 * installation in memory, so that a memory hit costs one comparison.
 *
 * @param random Uniform in [0, 1); 0 counts as the smallest positive number.
 */
export function earlyRefreshGapMs(costMs: number, beta: number, random: number): number {
  return beta === 0 ? 0 : -costMs * beta * Math.log(Math.max(random, Number.MIN_VALUE));
}

/** A short text stays a text: it is then copied only once. */
function payloadOf(
  text: string,
  compressBytesMin: number,
): { readonly payload: string | Buffer; readonly codec: number } {
  if (text.length <= SHORT_LENGTH_MAX && bytesMaxOf(text) < compressBytesMin) {
    return { payload: text, codec: CODEC_JSON };
  }
  const payload = Buffer.from(text, "utf8");
  if (payload.length < compressBytesMin) return { payload, codec: CODEC_JSON };
  const compressed = deflateRawSync(payload, { level: DEFLATE_LEVEL });
  return compressed.length < payload.length
    ? { payload: compressed, codec: CODEC_DEFLATE }
    : { payload, codec: CODEC_JSON };
}

/** A code unit of UTF-16 has at most three bytes of UTF-8. */
function bytesMaxOf(content: string | Buffer): number {
  return typeof content === "string" ? 3 * content.length : content.length;
}

function writeShort(bytes: Buffer, text: string, offset: number): number {
  const length = bytes.write(text, offset + 2, "utf8");
  bytes.writeUInt16LE(length, offset);
  return offset + 2 + length;
}

/** `undefined` if the bytes end before the text does. */
function readShort(bytes: Buffer, offset: number): { text: string; end: number } | undefined {
  if (offset + 2 > bytes.length) return undefined;
  const end = offset + 2 + bytes.readUInt16LE(offset);
  return end > bytes.length ? undefined : { text: bytes.toString("utf8", offset + 2, end), end };
}

/** `undefined` if the payload does not inflate. */
function payloadText(bytes: Buffer, offset: number, codec: number): string | undefined {
  if (codec === CODEC_JSON) return bytes.toString("utf8", offset);
  try {
    return inflateRawSync(bytes.subarray(offset), { maxOutputLength: PAYLOAD_BYTES_MAX })
      .toString("utf8");
  } catch (_error) {
    // Damaged bytes are an expected input, and the caller counts them.
    return undefined;
  }
}
