import {
  type Attributes,
  type Span,
  type SpanKind,
  SpanStatusCode,
  trace,
} from "@opentelemetry/api";

const tracer = trace.getTracer("lookaside");

/**
 * Runs `run` within a span of this library, which ends with it and records its error.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { spanned } from "@lookaside/cache/opentelemetry";
 *
 * const attributes = { "db.system.name": "postgresql" };
 * assert.equal(await spanned("query", { attributes }, () => Promise.resolve(1)), 1);
 * ```
 */
export async function spanned<T>(
  name: string,
  options: { readonly kind?: SpanKind; readonly attributes: Attributes },
  run: (span: Span) => T | Promise<T>,
): Promise<T> {
  return await tracer.startActiveSpan(name, options, async (span) => {
    try {
      return await run(span);
    } catch (error) {
      span.setStatus({
        code: SpanStatusCode.ERROR,
        message: error instanceof Error ? error.message : String(error),
      });
      throw error;
    } finally {
      span.end();
    }
  });
}
