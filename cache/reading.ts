import { SchemaError } from "./errors.ts";
import { FormedLookup, type Lookup } from "./lookup.ts";

/** A form of values in the cache other than JSON's, for what JSON would change: a `Date`, a `Map`, a `bigint`. */
export interface Codec<T, V = T> {
  /** Writes a value as text. */
  stringify(value: T): string;
  /** Reads what `stringify` wrote. If it throws, the entry counts as missing. */
  parse(text: string): V;
}

/**
 * A schema by the Standard Schema, which zod, valibot, ArkType and others follow. It has to validate at once, and
 * not by a promise.
 *
 * @see {@link https://standardschema.dev}
 */
export interface Schema<V> {
  /** The interface of the standard, as far as it is used here. */
  readonly "~standard": {
    /** Answers the value as the schema puts it out, or what is wrong with it. */
    readonly validate: (value: unknown) => SchemaResult<V> | Promise<SchemaResult<V>>;
  };
}

/** The outcome of a validation: `issues` are there if the value does not fit. */
export type SchemaResult<V> =
  | { readonly value: V; readonly issues?: undefined }
  | { readonly issues: readonly { readonly message: string }[] };

/** The options of a read that say which form its values have. */
export interface FormOptions {
  readonly codec?: Codec<never, unknown>;
  readonly schema?: Schema<unknown>;
}

/** Tells whether values have another form than that of JSON. */
export function hasForm({ codec, schema }: FormOptions): boolean {
  return codec !== undefined || schema !== undefined;
}

/**
 * Reads a text as the options of a read say.
 *
 * @throws What the codec throws.
 * @throws {SchemaError} The value does not fit the schema.
 * @throws {TypeError} The schema validates by a promise.
 */
export function valueIn(text: string, { codec, schema }: FormOptions): unknown {
  const value = codec === undefined ? JSON.parse(text) : codec.parse(text);
  if (schema === undefined) return value;
  const result = schema["~standard"].validate(value);
  if (result instanceof Promise) {
    throw new TypeError("Cannot use a schema that validates by a promise");
  }
  if (result.issues === undefined) return result.value;
  throw new SchemaError(result.issues.map(({ message }) => message).join("; "));
}

/** One read of values in a form of their own: what it has parsed once it need not parse again. */
export class Reading {
  readonly #options: FormOptions;
  readonly #onUnreadable: (error: unknown) => void;
  #last: { readonly text: string; readonly value: unknown } | undefined;
  #refused: string | undefined;

  /** @param onUnreadable Is told of each text that cannot be read, and why. */
  constructor(options: FormOptions, onUnreadable: (error: unknown) => void) {
    this.#options = options;
    this.#onUnreadable = onUnreadable;
  }

  /** Tells whether the text of an entry can be read. */
  readonly accepts = (text: string | null): boolean => {
    if (text === null || text === this.#last?.text) return true;
    try {
      this.#last = { text, value: valueIn(text, this.#options) };
      return true;
    } catch (error) {
      // Memory and Redis mostly hold the same.
      if (text !== this.#refused) this.#onUnreadable(error);
      this.#refused = text;
      return false;
    }
  };

  /**
   * The lookup of a caller, whose values are its own.
   *
   * @throws What {@linkcode valueIn} throws, where the value was loaded by somebody with other options.
   */
  lookup({ source, text, freshUntilMs, stale }: Lookup): Lookup {
    const last = this.#last;
    this.#last = undefined;
    const read = (text: string) => valueIn(text, this.#options);
    const first = text === null ? undefined : last?.text === text ? last.value : read(text);
    return new FormedLookup({ source, text, freshUntilMs, stale }, first, read);
  }
}
