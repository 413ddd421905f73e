/**
 * Run with the service's own flags by `permissions_test.ts`: tries what the service must not do, and
 * prints what came of each try as one JSON object.
 */
import { connect as connectTcp } from "node:net";

interface Targets {
  readonly allowed: number;
  readonly forbidden: number;
}

const targets: Targets = JSON.parse(Deno.args[0] ?? "{}");

const attempts: Record<string, () => unknown> = {
  allowed: () => dial(targets.allowed),
  denoConnect: () => dial(targets.forbidden),
  nodeConnect: () => nodeDial(targets.forbidden),
  fetch: () => fetch(`http://127.0.0.1:${targets.forbidden}/`),
  otherName: () => Deno.connect({ hostname: "localhost", port: targets.allowed }),
  listen: () => Deno.listen({ hostname: "127.0.0.1", port: targets.forbidden }),
  resolve: () => Deno.resolveDns("example.com", "A"),
  read: () => Deno.readTextFile(new URL(import.meta.url)),
  write: () => Deno.writeTextFile("/dev/null", ""),
  run: () => new Deno.Command(Deno.build.os === "windows" ? "cmd" : "true").output(),
  sys: () => Deno.hostname(),
  ffi: () => Deno.dlopen("libc.so.6", {}),
  importHttps: () => import(`https://esm.sh/${"not-there"}`),
  importRemote: () => import(`http://127.0.0.1:${targets.forbidden}/module.ts`),
  ownEnv: () => Deno.env.get("CACHE_PREFIX"),
  otherEnv: () => Deno.env.get("PROBE_SECRET"),
  allEnv: () => Object.keys(Deno.env.toObject()).join(),
};

const results: Record<string, string> = {};
for (const [name, attempt] of Object.entries(attempts)) {
  try {
    results[name] = `done: ${await attempt()}`;
  } catch (error) {
    const refused = /Requires \w+ access|--no-remote is specified/.test(String(error));
    results[name] = refused ? "refused" : String(error);
  }
}
await new Blob([JSON.stringify(results)]).stream().pipeTo(Deno.stdout.writable);

async function dial(port: number): Promise<string> {
  using connection = await Deno.connect({ hostname: "127.0.0.1", port });
  return connection.remoteAddr.transport;
}

function nodeDial(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connectTcp(port, "127.0.0.1");
    socket.once("connect", () => {
      socket.destroy();
      resolve("tcp");
    });
    socket.once("error", reject);
  });
}
