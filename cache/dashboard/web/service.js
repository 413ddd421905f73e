// @ts-check
/// <reference lib="dom" />
/**
 * Sends requests to the program, with a token if it requires one.
 *
 * @module
 */

const TOKEN = "lookaside-admin-token";
/** The address at which the dashboard is mounted. */
const BASE = new URL("../", import.meta.url);

/** The service requires a token, or a different one. */
export class AccessError extends Error {
  /**
   * @param {number} status What it answered: 401, 400 for a token that is none, or 403.
   * @param {string} message
   */
  constructor(status, message) {
    super(message);
    this.name = "AccessError";
    this.status = status;
  }
}

/** The service answered with an error. */
export class ServiceError extends Error {
  /**
   * @param {number} status
   * @param {string} message
   */
  constructor(status, message) {
    super(message);
    this.name = "ServiceError";
    this.status = status;
  }
}

/**
 * True if a request was refused because its condition no longer holds.
 *
 * @param {unknown} error
 */
export function isRefusedCondition(error) {
  return error instanceof ServiceError && error.status === 412;
}

/**
 * Keeps the token until the tab is closed.
 *
 * @param {string} token
 */
export function keepToken(token) {
  sessionStorage.setItem(TOKEN, token.toWellFormed());
}

/**
 * Sends a request. Streams are read from its response too, because `EventSource` cannot send the token.
 *
 * @param {string} path From the place of the dashboard on, or with a `/` from that of the whole program.
 * @param {RequestInit & { json?: unknown }} [init]
 * @returns {Promise<Response>}
 * @throws {AccessError | ServiceError} The response is not a success.
 * @throws {Error} There is no response.
 */
export async function request(path, { json, ...init } = {}) {
  const headers = new Headers(init.headers);
  const token = sessionStorage.getItem(TOKEN);
  // Characters that a header cannot contain are encoded, so the service refuses them like any wrong token.
  if (token !== null) headers.set("authorization", `Bearer ${encodeURI(token)}`);
  if (json !== undefined) headers.set("content-type", "application/json");
  const body = json === undefined ? null : JSON.stringify(json);
  const response = await answerOf(path, { ...init, headers, body, cache: "no-store" });
  if (response.ok) return response;
  const message = await messageOf(response);
  if (response.headers.has("www-authenticate") || response.status === 403) {
    throw new AccessError(response.status, message);
  }
  throw new ServiceError(response.status, message);
}

/**
 * @param {string} path
 * @param {RequestInit} init
 */
async function answerOf(path, init) {
  try {
    return await fetch(new URL(path, BASE), init);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    // The browser's message, "Failed to fetch", helps nobody.
    throw new Error("The service cannot be reached", { cause: error });
  }
}

/**
 * @param {Response} response
 * @returns {Promise<string>}
 */
async function messageOf(response) {
  try {
    const { error, issues = [] } = await response.json();
    const details = issues.map((/** @type {{ message: string }} */ issue) => issue.message);
    return [error, ...details].join(": ");
  } catch (_error) {
    return `The service answered ${response.status}`; // and nothing that can be read
  }
}
