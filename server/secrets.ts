/**
 * Secrets in files: read at the start, and again while the service runs, because they are rotated.
 *
 * @module
 */
import type { Logger } from "@logtape/logtape";
import { type Config, ConfigError, parseConfig, readEnvironment, SECRETS } from "./config.ts";
import type { DatabaseOptions } from "../db/database.ts";
import { parsePostgresUrl } from "../db/postgres_url.ts";
import { readCa } from "./certificates.ts";
import { messageOf } from "./message_of.ts";

/** Time for which the content of a file is used before it is read again. */
const REREAD_MS = 1_000;

/**
 * Makes the configuration, with secrets from the named files: `ADMIN_TOKEN_FILE` names the file with the value
 * of `ADMIN_TOKEN`.
 *
 * @throws {ConfigError} Names all problems at once.
 */
export function loadConfig(
  env: Readonly<Record<string, string | undefined>> = readEnvironment(),
): Config {
  const problems: string[] = [];
  const secrets: Record<string, string> = {};
  for (const name of SECRETS) {
    const path = env[`${name}_FILE`]?.trim();
    if (!path) continue;
    if (env[name]?.trim()) problems.push(`${name}: must be absent where ${name}_FILE is set`);
    try {
      secrets[name] = readSecret(path);
    } catch (error) {
      problems.push(`${name}_FILE: must be a file that can be read: ${messageOf(error)}`);
    }
  }
  if (problems.length > 0) throw new ConfigError(problems);
  return parseConfig({ ...env, ...secrets });
}

/**
 * Makes a function that answers the current content of a file. If it cannot be read or parsed, as during a
 * rotation, the previous content stays, and the problem is reported once.
 */
export function followSecret<T>(
  path: string | undefined,
  initial: T,
  { read, logger }: { readonly read: (text: string) => T; readonly logger: Pick<Logger, "warn"> },
): () => T {
  if (path === undefined) return () => initial;
  let current = initial;
  let readAtMs = performance.now();
  let failed = false;
  return () => {
    if (performance.now() - readAtMs < REREAD_MS) return current;
    readAtMs = performance.now();
    try {
      current = read(readSecret(path));
      failed = false;
    } catch (error) {
      const record = { path, reason: messageOf(error) };
      if (!failed) {
        logger.warn("Cannot read {path} again: {reason}; the previous secret stays in use", record);
      }
      failed = true;
    }
    return current;
  };
}

/** Options for connecting to Postgres, with the current password in its file. */
export async function databaseOptions(
  { database, secretFiles }: Config,
  logger: Pick<Logger, "warn">,
): Promise<DatabaseOptions> {
  const options = { ...database, ...await readCa(database.caFile) };
  const { passedOver } = parsePostgresUrl(database.url);
  if (passedOver.length > 0) {
    const message =
      "ignored parameters of DATABASE_URL, which are for other programs: {parameters}";
    logger.warn(message, { parameters: passedOver.join(", ") });
  }
  const path = secretFiles.DATABASE_PASSWORD ?? secretFiles.DATABASE_URL;
  if (path === undefined) return options;
  const passwordOf = (url: string) => decodeURIComponent(parsePostgresUrl(url).urls[0].password);
  const read = (text: string) =>
    secretFiles.DATABASE_PASSWORD === undefined ? passwordOf(text) : text;
  const password = followSecret(path, passwordOf(database.url), { read, logger });
  return { ...options, password };
}

/** @throws {Error} The file cannot be read, or is empty. */
function readSecret(path: string): string {
  const text = Deno.readTextFileSync(path).trim();
  if (text === "") throw new Error("it is empty");
  return text;
}
