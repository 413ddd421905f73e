/**
 * Spans for look-ups and loads.
 *
 * @module
 */
import { Cache, type Loader } from "../cache.ts";
import type { BatchLoader } from "../load_batch.ts";
import type { Jsonify, Lookup } from "../lookup.ts";
import type { EntryOptions } from "../options.ts";
import type { Slot } from "../slot.ts";
import { spanned } from "./spanned.ts";

/**
 * A cache that records look-ups and loads as spans, those of `wrap` included. A load belongs to the look-up that
 * began it; a read of several keys has one span of each.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { TracedCache } from "@lookaside/cache/opentelemetry";
 *
 * await using cache = new TracedCache({ url: "memory:", ttlMs: 60_000 });
 * const user = await cache.getOrLoad("user:1", () => Promise.resolve({ name: "Ada" }));
 * assert.equal(user.source, "load");
 * ```
 */
export class TracedCache extends Cache {
  /** Leaves everything to {@linkcode Cache.getOrLoad}, which records a span. */
  override getFromMemory(_key: string): undefined {
    return undefined;
  }

  /** As {@linkcode Cache.getOrLoad}, within a span. */
  override getOrLoad<T, V = Jsonify<T>>(
    key: string,
    load: Loader<T>,
    options?: EntryOptions<T, V>,
  ): Promise<Lookup<NoInfer<V>>> {
    const traced: Loader<T> = (...args) =>
      spanned("load", { attributes: { "lookaside.key": key } }, () => load(...args));
    return spanned("look-up", { attributes: { "lookaside.key": key } }, async (span) => {
      const lookup = await super.getOrLoad(key, traced, options);
      span.setAttributes({ "lookaside.source": lookup.source, "lookaside.stale": lookup.stale });
      return lookup;
    });
  }

  /** As {@linkcode Cache.getOrLoadMany}, within a span. */
  override getOrLoadMany<T, V = Jsonify<T>>(
    keys: readonly string[],
    loadMissing: BatchLoader<T>,
    options?: EntryOptions<T, V>,
  ): Promise<Lookup<NoInfer<V>>[]> {
    const traced: BatchLoader<T> = (missing, ...rest) =>
      spanned(
        "load",
        { attributes: { "lookaside.keys": missing.length } },
        () => loadMissing(missing, ...rest),
      );
    return spanned(
      "look-up",
      { attributes: { "lookaside.keys": keys.length } },
      () => super.getOrLoadMany(keys, traced, options),
    );
  }

  /** As {@linkcode Cache.begin}, within a span. The caller's load comes after it. */
  override begin<T, V = Jsonify<T>>(
    key: string,
    options?: EntryOptions<T, V>,
  ): Promise<Slot<T, NoInfer<V>>> {
    return spanned("look-up", { attributes: { "lookaside.key": key } }, async (span) => {
      const slot = await super.begin(key, options);
      span.setAttribute("lookaside.hit", slot.hit);
      return slot;
    });
  }
}
