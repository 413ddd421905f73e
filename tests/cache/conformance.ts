/**
 * What every cache promises, whatever is behind it. One suite for every topology: a new one is a line
 * in `conformance_test.ts`.
 *
 * @module
 */
import { assert } from "@std/assert";
import { describe } from "@std/testing/bdd";
import { Cache, type CacheOptions } from "../../cache/mod.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { PATIENT } from "../support/patient.ts";
import { describeClosing, describeLoads, describeMisuse } from "./_conformance_limits.ts";
import { describeReads, describeValues } from "./_conformance_reads.ts";
import { describeSlots, describeTtls, describeWrites } from "./_conformance_writes.ts";

/** One arrangement of servers that a cache can run on. */
export interface Topology {
  /** Its name in the report. */
  readonly name: string;
  /** What to open a cache with; called for each test, so that no two share keys. */
  readonly options: () => CacheOptions;
}

/** Registers the suite for one topology. */
export function describeCacheOn(topology: Topology): void {
  /** A cache that is ready for its first command. */
  async function open(options: CacheOptions = {}): Promise<Cache> {
    const all = { ...PATIENT, ...topology.options(), memoryBytes: 4 * 1024 * 1024, ...options };
    // A server that may take another's place is read once it has been caught up with.
    let mayRead = !/-(sentinel|cluster):/.test(all.url ?? "");
    const onEvent: CacheOptions["onEvent"] = (event) => {
      if (event.type === "caught-up") mayRead = true;
      return all.onEvent?.(event);
    };
    const cache = new Cache({ ...all, onEvent });
    await eventually(() => assert(mayRead && cache.stats().coherent, "it is not connected"));
    return cache;
  }
  describe(`Cache on ${topology.name}`, () => {
    describeReads(open);
    describeValues(open);
    describeWrites(open);
    describeTtls(open);
    describeSlots(open);
    describeLoads(open);
    describeMisuse(open);
    describeClosing(open);
  });
}
