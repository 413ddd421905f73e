import { assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Buffer } from "node:buffer";
import { crc32, deflateSync } from "node:zlib";
import { animatedPng } from "../../tools/animated_png.ts";

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];

/** A grey picture of one line. */
function png(...line: readonly number[]): Uint8Array {
  const header = Uint8Array.of(...[0, 0, 0, line.length, 0, 0, 0, 1], ...[8, 0, 0, 0, 0]);
  const parts = [
    chunk("IHDR", header),
    chunk("IDAT", deflateSync(Uint8Array.of(0, ...line))),
    chunk("IEND", new Uint8Array()),
  ];
  return Uint8Array.of(...SIGNATURE, ...parts.flat());
}

function chunk(type: string, data: Uint8Array): number[] {
  const body = [...new TextEncoder().encode(type), ...data];
  return [...word(data.length), ...body, ...word(crc32(Uint8Array.from(body)))];
}

function word(value: number): number[] {
  return [24, 16, 8, 0].map((shift) => (value >>> shift) & 255);
}

/** Types and lengths of chunks, each of which must have the right checksum. */
function outline(bytes: Uint8Array): string[] {
  const view = new DataView(bytes.buffer);
  const found: string[] = [];
  for (let at = 8; at < bytes.length;) {
    const length = view.getUint32(at);
    const body = bytes.subarray(at + 4, at + 8 + length);
    assertEquals(view.getUint32(at + 8 + length), crc32(body));
    found.push(new TextDecoder().decode(body.subarray(0, 4)));
    at += 12 + length;
  }
  return found;
}

describe("animatedPng()", () => {
  it("shows the frames in turn, numbered, each for its time", () => {
    const frames = [png(1, 2), Buffer.from(png(3, 4)), png(5, 6)];
    const bytes = animatedPng(frames, 700);
    assertEquals([...bytes.subarray(0, 8)], SIGNATURE);
    assertEquals(outline(bytes), [
      ...["IHDR", "acTL", "fcTL", "IDAT", "fcTL", "fdAT", "fcTL", "fdAT", "IEND"],
    ]);
    const view = new DataView(bytes.buffer);
    const actl = 8 + 25;
    assertEquals(view.getUint32(actl + 8), 3);
    const fctl = actl + 20;
    assertEquals([view.getUint32(fctl + 8), view.getUint32(fctl + 12)], [0, 2]); // number, width
    assertEquals([view.getUint16(fctl + 28), view.getUint16(fctl + 30)], [700, 1_000]);
  });

  it("refuses what does not fit together", () => {
    assertThrows(() => animatedPng([], 700), TypeError, "there is no picture");
    assertThrows(() => animatedPng([png(1), png(1, 2)], 700), TypeError, "picture 1 differs");
    assertThrows(() => animatedPng([new Uint8Array(20)], 700), TypeError, "that is no PNG");
  });
});
