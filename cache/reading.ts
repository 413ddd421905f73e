import { SchemaError } from "./errors.ts";
import { Lookup } from "./lookup.ts";

/** A form of cached values for types that JSON would change: a `Date`, a `Map`, a `bigint`. */
export interface Codec<T, V = T> {
  /** Writes a value as text. */
  stringify(value: T): string;
  /** Reads what `stringify` wrote. If it throws, the entry counts as missing. */
  parse(text: string): V;
}

/**
 * A schema by the Standard Schema, which zod, valibot, ArkType and others follow. It must validate synchronously.
 *
 * @see {@link https://standardschema.dev}
 */
export interface Schema<V> {
  /** The used part of the standard's interface. */
  readonly "~standard": {
    /** Answers the output of the schema, or what is wrong with the value. */
    readonly validate: (value: unknown) => SchemaResult<V> | Promise<SchemaResult<V>>;
  };
}

/** The outcome of a validation: `issues` is set if the value does not match. */
export type SchemaResult<V> =
  | { readonly value: V; readonly issues?: undefined }
  | { readonly issues: readonly { readonly message: string }[] };

/** The options of a read that define the form of its values. */
export interface FormOptions {
  readonly codec?: Codec<never, unknown>;
  readonly schema?: Schema<unknown>;
}

/** True if values have a form other than plain JSON. */
export function hasForm({ codec, schema }: FormOptions): boolean {
  return codec !== undefined || schema !== undefined;
}

/**
 * Refuses early what would make every entry unreadable.
 *
 * @throws {TypeError} The codec or the schema is none.
 */
export function assertForm({ codec, schema }: FormOptions): void {
  if (codec !== undefined && typeof codec?.parse !== "function") {
    throw new TypeError("Cannot use codec: it must have stringify() and parse()");
  }
  if (schema !== undefined && typeof schema?.["~standard"]?.validate !== "function") {
    throw new TypeError("Cannot use schema: it does not follow the Standard Schema");
  }
}

/**
 * Reads a text by the options of a read.
 *
 * @throws The error of the codec.
 * @throws {SchemaError} The value does not match the schema.
 * @throws {TypeError} The schema validates asynchronously.
 */
export function valueIn(text: string, { codec, schema }: FormOptions): unknown {
  const value = codec === undefined ? JSON.parse(text) : codec.parse(text);
  if (schema === undefined) return value;
  const result = schema["~standard"].validate(value);
  if (result instanceof Promise) {
    throw new TypeError("Cannot use an asynchronous schema: it must validate without a promise");
  }
  if (result.issues === undefined) return result.value;
  throw new SchemaError(result.issues.map(({ message }) => message).join("; "));
}

/** One read. It parses each text of a codec or schema once, and plain JSON only when a caller asks. */
export class Reading {
  readonly #options: FormOptions;
  readonly #isPlain: boolean;
  readonly #onUnreadable: (error: unknown) => void;
  #last: { readonly text: string; readonly value: unknown } | undefined;
  #refused: string | undefined;

  /** @param onUnreadable Called for each text that cannot be read, with the reason. */
  constructor(options: FormOptions, onUnreadable: (error: unknown) => void) {
    this.#options = options;
    this.#isPlain = !hasForm(options);
    this.#onUnreadable = onUnreadable;
  }

  /** Tells whether the text of an entry can be read. */
  readonly accepts = (text: string | null): boolean => {
    if (this.#isPlain || text === null || text === this.#last?.text) return true;
    try {
      this.#last = { text, value: valueIn(text, this.#options) };
      return true;
    } catch (error) {
      // Report once: memory and Redis mostly hold the same text.
      if (text !== this.#refused) this.#onUnreadable(error);
      this.#refused = text;
      return false;
    }
  };

  /**
   * Makes the lookup of one caller, with a value of its own: the first call of `value()` answers the one that is
   * parsed already.
   *
   * @throws The errors of {@linkcode valueIn}, if a caller with other options loaded the value.
   */
  lookup(found: Lookup): Lookup {
    if (this.#isPlain) return found;
    const { source, text, freshUntilMs, stale } = found;
    if (text !== null && text !== this.#last?.text) {
      this.#last = { text, value: valueIn(text, this.#options) };
    }
    let first = this.#last;
    this.#last = undefined;
    return new Lookup(source, text, freshUntilMs, stale, (text) => {
      const value = first === undefined ? valueIn(text, this.#options) : first.value;
      first = undefined;
      return value;
    });
  }
}

/** The reading of plain JSON. It remembers nothing, so every such read shares it. */
export const PLAIN: Reading = new Reading({}, () => undefined);
