/**
 * What requests may hold. Each schema is named and describes itself, so that the API's description can
 * be generated from the same source.
 *
 * @module
 */
import { z } from "zod";

/** The largest id: the column is a 32-bit integer. No table has more rows than that, either. */
export const USER_ID_MAX = 2_147_483_647;
/** The most users on one page, and the most ids in one request. */
export const PAGE_LIMIT_MAX = 100;
/** Users on a page where nothing else was asked for. */
export const PAGE_LIMIT_DEFAULT = 10;
/** `VARCHAR(100)`: characters, not UTF-16 code units and not bytes. */
const TEXT_LENGTH_MAX = 100;

/**
 * A dot-atom, `@`, and at least two labels, in any script: what most people would take for an address.
 * Each part excludes what ends it, so matching takes linear time.
 */
const EMAIL =
  /^[^\s@."(),:;<>[\\\]\p{Cc}]+(?:\.[^\s@."(),:;<>[\\\]\p{Cc}]+)*@[\p{L}\p{N}](?:[\p{L}\p{M}\p{N}-]*)(?:\.[\p{L}\p{N}][\p{L}\p{M}\p{N}-]*)+$/u;

/** The id of a user. */
export const UserId: z.ZodType<number, number> = wholeNumber(1, USER_ID_MAX).meta({
  description: "The user's id",
  example: 1,
});

/** The longest key of an entry, in UTF-16 code units. */
const KEY_LENGTH_MAX = 200;

/** The key of an entry: all that the cache takes for one. */
export const EntryKey: z.ZodType<string, string> = z.string()
  // deno-lint-ignore no-control-regex -- control characters are what it is there to refuse
  .regex(/^[^{}\u0000-\u001f\u007f]+$/, {
    error: "Expected a key without braces and control characters",
  })
  .refine((key) => key.isWellFormed(), { error: "Expected a key without unpaired surrogates" })
  .refine((key) => key.length <= KEY_LENGTH_MAX, {
    error: `Expected at most ${KEY_LENGTH_MAX} characters`,
  })
  .meta({ description: "The entry's key", maxLength: KEY_LENGTH_MAX, example: "user:1" });

const Text = z.string({ error: requiredOr("Expected text") })
  // Postgres cannot hold NUL in text, and half of a surrogate pair has no UTF-8 form.
  .refine((text) => text.isWellFormed() && !text.includes("\0"), {
    error: "Expected text without NUL characters and unpaired surrogates",
  });

const ShortText = Text
  .refine((text) => text.length > 0 && isAtMost(text, TEXT_LENGTH_MAX), {
    error: `Expected 1 to ${TEXT_LENGTH_MAX} characters`,
  });

/** A user's name. */
const UserName: z.ZodType<string, string> = ShortText.meta({
  description: "The user's name",
  minLength: 1,
  maxLength: TEXT_LENGTH_MAX,
  example: "Ada Lovelace",
});

/** A user's address. Plausible, not proven to exist. */
const UserEmail: z.ZodType<string, string> = ShortText
  .refine((text) => EMAIL.test(text), { error: "Expected an email address" })
  .meta({
    description: "The user's email address",
    format: "idn-email",
    minLength: 1,
    maxLength: TEXT_LENGTH_MAX,
    example: "ada@example.com",
  });

const UserBio = Text.nullable().meta({
  description: "Anything about the user",
  example: "Wrote the first program",
});

/** The fields of a user, all of which a caller may write. */
export interface UserFieldsInput {
  /** 1 to 100 characters. */
  readonly name: string;
  /** 1 to 100 characters. */
  readonly email: string;
  /** Bounded by the size of a body alone. */
  readonly bio: string | null;
}

/** The body of `POST /users` and `PUT /users/:id`. */
export const UserBody: z.ZodType<UserFieldsInput> = z.strictObject({
  name: UserName,
  email: UserEmail,
  bio: UserBio.default(null),
}, { error: notAnObject }).meta({ id: "UserBody", description: "A user as a client writes it" });

/** The body of `PATCH /users/:id`. */
export const UserChanges: z.ZodType<Partial<UserFieldsInput>> = z.strictObject({
  name: z.exactOptional(UserName),
  email: z.exactOptional(UserEmail),
  bio: z.exactOptional(UserBio),
}, { error: notAnObject })
  .refine((changes) => Object.keys(changes).length > 0, {
    error: "Expected at least one of name, email and bio",
  })
  .meta({ id: "UserChanges", description: "The fields to overwrite", minProperties: 1 });

/** The query of `GET /users`, its numbers read. */
export interface UsersQueryInput {
  /** Which page, from 1. */
  readonly page?: number;
  /** Users on a page. */
  readonly limit?: number;
  /** Show the users that follow this id. */
  readonly after?: number;
  /** Show these users. */
  readonly ids?: readonly number[];
}

/** The query of `GET /users`. Parameters that are not listed here are ignored. */
export const UsersQuery: z.ZodType<UsersQueryInput, Record<string, unknown>> = z.object({
  page: z.exactOptional(wholeNumber(1, USER_ID_MAX)).meta({
    description: "Which page, from 1. Deep pages are slow: use `after` to walk the whole list",
    default: 1,
  }),
  limit: z.exactOptional(wholeNumber(1, PAGE_LIMIT_MAX)).meta({
    description: "Users on a page",
    default: PAGE_LIMIT_DEFAULT,
  }),
  after: z.exactOptional(wholeNumber(0, USER_ID_MAX)).meta({
    description: "Show the users whose ids follow this one. As fast at the end as at the start",
  }),
  ids: z.exactOptional(
    z.array(wholeNumber(1, USER_ID_MAX)).min(1).max(PAGE_LIMIT_MAX, {
      error: `Expected at most ${PAGE_LIMIT_MAX} ids`,
    }),
  ).meta({
    description: "Show these users, separated by commas. Unknown ones are left out",
    param: { explode: false },
  }),
}).superRefine((query, context) => {
  for (const [name, others] of Object.entries(EXCLUDED_BY)) {
    if (!Object.hasOwn(query, name)) continue;
    for (const other of others.filter((other) => Object.hasOwn(query, other))) {
      const message = `Cannot be combined with ${name}`;
      context.addIssue({ code: "custom", path: [other], message });
    }
  }
  const { page = 1, limit = PAGE_LIMIT_DEFAULT } = query;
  if (page <= USER_ID_MAX && (page - 1) * limit > USER_ID_MAX) {
    const message = `Expected at most ${USER_ID_MAX} users before the page`;
    context.addIssue({ code: "custom", path: ["page"], message });
  }
});

const EXCLUDED_BY = { after: ["page"], ids: ["page", "limit", "after"] };

function wholeNumber(min: number, max: number): z.ZodInt {
  const error = `Expected a whole number from ${min} to ${max}`;
  return z.int({ error }).min(min, { error }).max(max, { error });
}

function requiredOr(message: string): (issue: { readonly input?: unknown }) => string {
  return (issue) => issue.input === undefined ? "Required" : message;
}

function notAnObject(issue: { readonly code: string | undefined }): string | undefined {
  return issue.code === "invalid_type" ? "Expected an object" : undefined;
}

/** Whether the text has at most `max` code points. Does not walk a text that is too long to matter. */
function isAtMost(text: string, max: number): boolean {
  return text.length <= max || (text.length <= 2 * max && [...text].length <= max);
}
