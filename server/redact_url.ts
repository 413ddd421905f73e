/**
 * URLs without secrets, for people.
 *
 * @module
 */
import { changePostgresUrl, parsePostgresUrl } from "../db/postgres_url.ts";

/** A URL with several servers, which `URL` cannot parse. */
const SEVERAL_SERVERS = /^(rediss?-[a-z]+:\/\/)(?:([^@/]*)@)?([^@?#]*)$/;

/** A URL fit for logs and terminals: its password is replaced by `***`. */
export function redactUrl(url: string): string {
  const [, scheme, user, servers] = SEVERAL_SERVERS.exec(url) ?? [];
  if (scheme !== undefined) {
    return `${scheme}${user === undefined ? "" : `${user.replace(/:.*/s, ":***")}@`}${servers}`;
  }
  if (isPostgres(url)) return changePostgresUrl(url, hideSecrets);
  if (!URL.canParse(url)) return "(not a URL)";
  const shown = new URL(url);
  hideSecrets(shown);
  return shown.href;
}

function isPostgres(url: string): boolean {
  try {
    parsePostgresUrl(url);
    return true;
  } catch {
    return false;
  }
}

function hideSecrets(shown: URL): void {
  if (shown.password !== "") shown.password = "***";
  for (const name of new Set(shown.searchParams.keys())) {
    if (/pass|secret|token|key/i.test(name)) shown.searchParams.set(name, "***");
  }
}
