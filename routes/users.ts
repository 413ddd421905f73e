/**
 * The declaration of users.
 *
 * @module
 */
import { z } from "zod";
import { notAnObject, type Resource, resource } from "./resource.ts";

/** `VARCHAR(100)`: characters, not UTF-16 code units and not bytes. */
const TEXT_LENGTH_MAX = 100;

/**
 * A dot-atom, `@`, and at least two labels, in any script: plausible as an address. Each part excludes the
 * character that ends it, so matching takes linear time.
 */
const EMAIL =
  /^[^\s@."(),:;<>[\\\]\p{Cc}]+(?:\.[^\s@."(),:;<>[\\\]\p{Cc}]+)*@[\p{L}\p{N}](?:[\p{L}\p{M}\p{N}-]*)(?:\.[\p{L}\p{N}][\p{L}\p{M}\p{N}-]*)+$/u;

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
const UserName = ShortText.meta({
  description: "The user's name",
  minLength: 1,
  maxLength: TEXT_LENGTH_MAX,
  example: "Ada Lovelace",
});

/** A user's address. Plausible, not proven to exist. */
const UserEmail = ShortText
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

/** The columns are older than this service, whose own writes never leave name or email empty. */
const User = z.object({
  id: z.int().min(1).meta({ description: "The user's id", example: 1 }),
  name: z.string().nullable(),
  email: z.string().nullable(),
  bio: z.string().nullable(),
  created_at: z.iso.datetime().nullable().meta({ description: "When the user was created" }),
}).meta({ id: "User", description: "A user" });

const UserBody = z.strictObject({
  name: UserName,
  email: UserEmail,
  bio: UserBio.default(null),
}, { error: notAnObject }).meta({ id: "UserBody", description: "A user as a client writes it" });

export const users: Resource = resource("users", { row: User, write: UserBody });

function requiredOr(message: string): (issue: { readonly input?: unknown }) => string {
  return (issue) => issue.input === undefined ? "Required" : message;
}

/** True if the text has at most `max` code points. Does not walk a text that is clearly too long. */
function isAtMost(text: string, max: number): boolean {
  return text.length <= max || (text.length <= 2 * max && [...text].length <= max);
}
