import { assert, assertEquals, assertGreater, assertLessOrEqual } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Cache } from "../../cache/mod.ts";
import { startRedis } from "../../tools/servers/redis_server.ts";

const MIB = 1024 * 1024;

interface Probed {
  readonly entries: number;
  readonly accountedBytes: number;
  readonly grownBytes: number;
}

/** Fills the memory tier of a new process, and answers the counted and the used bytes. */
async function probe(kind: string, count: number, url: string): Promise<Probed> {
  const { stdout, stderr, success } = await new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "-A", "--quiet", "--v8-flags=--expose-gc"],
      ...[new URL("_heap_probe.ts", import.meta.url).href, kind, String(count), url],
    ],
  }).output();
  assert(success, new TextDecoder().decode(stderr));
  return JSON.parse(new TextDecoder().decode(stdout));
}

function assertWithinAFifth({ accountedBytes, grownBytes }: Probed): void {
  assertGreater(accountedBytes, 0.8 * grownBytes);
  assertLessOrEqual(accountedBytes, 1.2 * grownBytes);
}

describe("The memory tier", () => {
  it("stays within its bytes while a million keys pass through it", async () => {
    await using cache = new Cache({ memoryBytes: 64 * MIB });
    const bio =
      "This is the bio for user. Lorem ipsum dolor sit amet, consectetur adipiscing elit.";
    for (let first = 0; first < 1_000_000; first += 1_000) {
      await Promise.all(Array.from({ length: 1_000 }, (_, at) => {
        const id = first + at;
        const user = { id, name: `User ${id}`, email: `user${id}@example.com`, bio };
        return cache.set(`user:${id}`, user);
      }));
      assertLessOrEqual(cache.stats().memory.bytes, 64 * MIB);
    }
    const { bytes, entries, evictions } = cache.stats().memory;
    assertGreater(bytes, 63 * MIB);
    assertEquals(entries + evictions, 1_000_000);
  });

  it("does not hold an entry larger than itself", async () => {
    await using cache = new Cache({ memoryBytes: MIB });
    await cache.set("large", "x".repeat(MIB));
    await cache.set("small", "x");
    assertEquals(cache.stats().memory.entries, 1);
    assertEquals((await cache.get("small"))?.value(), "x");
  });

  for (const kind of ["latin", "wide"]) {
    it(`accounts for ${kind} users within a fifth of what the heap grows by`, async () => {
      const probed = await probe(kind, 50_000, "memory:");
      assertEquals(probed.entries, 50_000);
      assertWithinAFifth(probed);
    });
  }

  it("holds nothing of Redis's replies beside the text", async () => {
    await using server = await startRedis();
    const probed = await probe("latin", 15_000, server.url);
    assertEquals(probed.entries, 15_000);
    assertWithinAFifth(probed);
  });
});
