/**
 * Combines PNG pictures into one animated PNG (APNG) from their chunks, without decoding.
 *
 * @module
 */
import { crc32 } from "node:zlib";

const SIGNATURE = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);
/** Length, type and checksum of a chunk. */
const FRAMING_BYTES = 12;

interface Chunk {
  readonly type: string;
  readonly data: Uint8Array;
}

/**
 * One animated PNG from PNGs of the same size, shown in a loop.
 *
 * @throws {TypeError} There are none, one is not a PNG, or they differ in size or format.
 */
export function animatedPng(frames: readonly Uint8Array[], frameMs: number): Uint8Array {
  const pictures = frames.map(chunksOf);
  const header = pictures[0]?.find(({ type }) => type === "IHDR")?.data;
  if (header === undefined) throw new TypeError("Cannot animate: there is no picture");
  let sequence = 0;
  const chunks: Chunk[] = [
    { type: "IHDR", data: header },
    { type: "acTL", data: words(frames.length, 0) },
  ];
  for (const [at, picture] of pictures.entries()) {
    const own = picture.find(({ type }) => type === "IHDR")?.data;
    if (String(own) !== String(header)) {
      throw new TypeError(`Cannot animate: picture ${at} differs`);
    }
    chunks.push({ type: "fcTL", data: control(sequence++, header, frameMs) });
    for (const { type, data } of picture) {
      if (type !== "IDAT") continue;
      if (at === 0) chunks.push({ type, data });
      else chunks.push({ type: "fdAT", data: joined([words(sequence++), data]) });
    }
  }
  chunks.push({ type: "IEND", data: new Uint8Array() });
  return joined([SIGNATURE, ...chunks.map(encoded)]);
}

/** The chunks of a PNG. */
function chunksOf({ buffer, byteOffset, byteLength }: Uint8Array): Chunk[] {
  const png = new Uint8Array(buffer, byteOffset, byteLength); // String() would decode a Buffer
  if (String(png.subarray(0, SIGNATURE.length)) !== String(SIGNATURE)) {
    throw new TypeError("Cannot animate: that is no PNG");
  }
  const view = new DataView(buffer, byteOffset, byteLength);
  const chunks: Chunk[] = [];
  for (let at = SIGNATURE.length; at < png.length;) {
    const length = view.getUint32(at);
    const type = new TextDecoder().decode(png.subarray(at + 4, at + 8));
    chunks.push({ type, data: png.subarray(at + 8, at + 8 + length) });
    at += FRAMING_BYTES + length;
  }
  return chunks;
}

/** The chunk before a frame, with its duration and position. The frame replaces the previous one. */
function control(sequence: number, header: Uint8Array, frameMs: number): Uint8Array {
  const duration = new Uint8Array(6);
  const view = new DataView(duration.buffer);
  view.setUint16(0, frameMs);
  view.setUint16(2, 1_000);
  return joined([words(sequence), header.subarray(0, 8), words(0, 0), duration]);
}

function encoded({ type, data }: Chunk): Uint8Array {
  const body = joined([new TextEncoder().encode(type), data]);
  return joined([words(data.length), body, words(crc32(body))]);
}

function words(...values: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(4 * values.length);
  const view = new DataView(bytes.buffer);
  for (const [at, value] of values.entries()) view.setUint32(4 * at, value);
  return bytes;
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
