import { fileURLToPath } from "node:url";
import { parseConfig } from "../../server/config.ts";
import { definedOnly } from "../environment.ts";
import { permissionFlags } from "../permissions.ts";
import { eventually } from "./eventually.ts";
import { freePort } from "./free_port.ts";
import { readyAt } from "./ready_at.ts";
import { ServerProcess, started } from "./server_process.ts";

/** Options of {@linkcode startService}. */
export interface ServiceOptions {
  /** The service's configuration. It gets nothing else from this process's environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** The source tree to run, with a slash at its end. Default: this one. */
  readonly root?: string;
  /** The path that must answer 200 before the service counts as started. Default `/readyz`. */
  readonly readyPath?: string;
  /** Time that it has to become ready. Default 30,000. */
  readonly readyWithinMs?: number;
  /** The port of an inspector, for tests only. */
  readonly inspectorPort?: number;
}

const root = fileURLToPath(new URL("../../", import.meta.url));

/** Variables with which Deno finds its cache. */
const denoVariables = ["PATH", "HOME", "DENO_DIR", "XDG_CACHE_HOME", "TMPDIR"];

/** The real service in its own process. */
export class Service extends ServerProcess {
  /** The port it listens on, also after a restart. */
  readonly port: number;
  /** `http://127.0.0.1:{port}`. */
  readonly url: string;

  /** Use {@linkcode startService}. */
  constructor(port: number, options: ServiceOptions) {
    const url = `http://127.0.0.1:${port}`;
    const env = { ...openUnlessTold(options.env), HOST: "127.0.0.1", PORT: String(port) };
    const { inspectorPort } = options;
    const inspect = inspectorPort === undefined ? [] : [`--inspect=127.0.0.1:${inspectorPort}`];
    super({
      command: Deno.execPath(),
      args: ["run", ...inspect, ...runFlags(env), `${options.root ?? root}main.ts`],
      clearEnv: true,
      env: { ...denoEnvironment(), ...env },
      ...readyAt(`${url}${options.readyPath ?? "/readyz"}`, options.readyWithinMs),
    });
    this.port = port;
    this.url = url;
  }

  /** Requests a path of the service. */
  fetch(path: string, init?: RequestInit): Promise<Response> {
    return fetch(this.url + path, init);
  }
}

/** Starts the service on a free port and waits until it is ready. */
export async function startService(options: ServiceOptions = {}): Promise<Service> {
  return await started(new Service(freePort(), options));
}

/**
 * Waits until the cache is in use. A service is ready before: it answers from the database until Redis is
 * connected and may be trusted.
 */
export async function cacheInUse(service: Service, path = "/users/1"): Promise<void> {
  await eventually(async () => {
    const response = await service.fetch(path);
    const { source } = await response.json();
    if (source !== "cache") throw new Error(`Cannot use the cache: ${path} came from ${source}`);
  });
}

/** Tests write and look inside without a token, unless they are about tokens. */
function openUnlessTold(env: ServiceOptions["env"] = {}): Record<string, string> {
  const told = ["ADMIN_TOKEN", "ADMIN_TOKEN_FILE", "ADMIN_OPEN"].some((name) => name in env);
  return told ? { ...env } : { ...env, ADMIN_OPEN: "on" };
}

function denoEnvironment(): Record<string, string> {
  return definedOnly(Object.fromEntries(denoVariables.map((name) => [name, Deno.env.get(name)])));
}

/** The permissions of production, with the import map of the suite. */
function runFlags(env: Readonly<Record<string, string>>): string[] {
  const flags = permissionFlags(parseConfig(env));
  const importMap = Deno.env.get("TEST_IMPORT_MAP");
  if (!importMap) return flags;
  // The other map names remote code.
  const local = flags.filter((flag) => flag !== "--no-remote");
  return [...local, "--no-lock", "--import-map", importMap];
}
