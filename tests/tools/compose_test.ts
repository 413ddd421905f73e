import { assert, assertEquals, assertMatch } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { DockerfileParser, type JSONInstruction } from "dockerfile-ast";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import { z } from "zod";
import { parseConfig, VARIABLE_NAMES } from "../../server/config.ts";
import { productionFlags } from "../../tools/permissions.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));

const Service = z.object({
  image: z.string(),
  command: z.array(z.string()).default([]),
  environment: z.record(z.string(), z.string()).default({}),
  ports: z.array(z.string()).default([]),
  volumes: z.array(z.string()).default([]),
  depends_on: z.record(z.string(), z.object({ condition: z.string() })).default({}),
  healthcheck: z.object({ test: z.array(z.string()).optional(), disable: z.boolean().optional() }),
  stop_grace_period: z.string().optional(),
  read_only: z.boolean(),
  cap_drop: z.array(z.string()),
  security_opt: z.array(z.string()),
  mem_limit: z.string().regex(/^\d+m$/),
  pids_limit: z.number(),
});

const Compose = z.object({
  services: z.object({ app: Service, seed: Service, redis: Service, postgres: Service }),
  volumes: z.record(z.string(), z.null()),
});

const { services, volumes } = Compose.parse(
  parse(await Deno.readTextFile(`${root}docker-compose.yml`)),
);
const dockerfile = DockerfileParser.parse(await Deno.readTextFile(`${root}Dockerfile`));

/** The variables of a service, with `${NAME:-default}` as it is where nothing is set. */
function environmentOf(service: z.infer<typeof Service>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(service.environment).map(([name, value]) => [
      name,
      value.replaceAll(/\$\{\w+:-([^}]*)\}/g, "$1"),
    ]),
  );
}

function isJson(
  instruction: ReturnType<typeof dockerfile.getInstructions>[number],
): instruction is JSONInstruction {
  return "getJSONStrings" in instruction;
}

/** The strings of the last instruction of that name in its JSON form. */
function jsonArgs(name: string): string[] {
  const found = dockerfile.getInstructions().findLast((each) => each.getInstruction() === name);
  assert(found !== undefined && isJson(found), `${name} is not in its JSON form`);
  return found.getJSONStrings().map((each) => JSON.parse(each.getValue()));
}

function linesOf(name: string): string[] {
  return dockerfile.getInstructions()
    .filter((each) => each.getInstruction() === name)
    .map((each) => each.getArgumentsContent() ?? "");
}

describe("Dockerfile", () => {
  const config = parseConfig(environmentOf(services.app));

  it("runs what `deno task start` runs, for the hosts of docker-compose.yml", () => {
    assertEquals(jsonArgs("CMD"), ["run", ...productionFlags(config), "main.ts"]);
  });

  it("is built on the version of Deno that runs the tests", () => {
    assertEquals(dockerfile.getFROMs().map((from) => from.getImageTag()), [Deno.version.deno]);
  });

  it("does not run as root", () => {
    const names = dockerfile.getInstructions().map((each) => each.getInstruction());
    assertEquals(linesOf("USER"), ["deno"]);
    assert(names.indexOf("USER") < names.lastIndexOf("RUN"), "the cache is filled by that user");
  });

  it("copies all that the service and the seed import, and no secret", async () => {
    const folder = await Deno.makeTempDir();
    try {
      const included = await includedFiles();
      for (const file of included) await copyInto(folder, file);
      assert(!included.some((file) => /(^|\/)\.env|^\.data|^tests\/(?!deno\.json$)/.test(file)));
      const { success, stderr } = await new Deno.Command(Deno.execPath(), {
        args: ["cache", "--frozen", "main.ts", "seed.ts", "tools/healthcheck.ts"],
        cwd: folder,
      }).output();
      assert(success, new TextDecoder().decode(stderr));
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });

  it("asks its health of the port it listens on", () => {
    const [healthcheck] = dockerfile.getHEALTHCHECKs();
    const text = healthcheck?.getArgumentsContent() ?? "";
    assert(text.includes(`--allow-net=127.0.0.1:${config.http.port}`), text);
    const test = services.app.healthcheck.test?.slice(1) ?? [];
    assert(
      text.replaceAll(/\s+/g, " ").endsWith(
        `CMD ${JSON.stringify(test)}`.replaceAll('","', '", "'),
      ),
    );
  });

  it("exposes the port it listens on", () => {
    assertEquals(linesOf("EXPOSE"), [String(config.http.port)]);
  });
});

describe("docker-compose.yml", () => {
  const config = parseConfig(environmentOf(services.app));

  it("sets only variables that the service reads", () => {
    for (const { environment } of [services.app, services.seed]) {
      assertEquals(Object.keys(environment).filter((name) => !VARIABLE_NAMES.includes(name)), []);
    }
  });

  it("publishes every port on loopback only, where the defaults expect it", () => {
    const { http, cache, database } = parseConfig({});
    assertEquals(
      [services.app, services.redis, services.postgres].flatMap(({ ports }) => ports),
      [
        `127.0.0.1:${http.port}:${config.http.port}`,
        `127.0.0.1:${new URL(cache.url).port}:6379`,
        `127.0.0.1:${new URL(database.url).port}:5432`,
      ],
    );
    assertEquals(services.seed.ports, []);
  });

  it("makes the database that the service and the default configuration name", () => {
    const { POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB } = environmentOf(services.postgres);
    for (const text of [config.database.url, parseConfig({}).database.url]) {
      const url = new URL(text);
      assertEquals([url.username, url.password, url.pathname], [
        POSTGRES_USER,
        POSTGRES_PASSWORD,
        `/${POSTGRES_DB}`,
      ]);
    }
    assertEquals(parseConfig(environmentOf(services.seed)).database.url, config.database.url);
  });

  it("takes images of one release each, as CI does with its actions", async () => {
    const files = ["docker-compose.yml", "docker-compose.cluster.yml", "Dockerfile"];
    const texts = await Promise.all(
      [...files, ".github/workflows/ci.yml"].map((path) => Deno.readTextFile(root + path)),
    );
    const images = texts.join("\n").matchAll(/^\s*(?:image:|FROM) ([\w./-]+)(\S*)/gm);
    for (const [, name, release = ""] of images) {
      if (name !== "lookaside") assertMatch(release, /^:\d+\.\d+(\.\d+)?(-alpine)?$/, name);
    }
    for (const [, action = ""] of (texts.at(-1) ?? "").matchAll(/uses: (\S+)/g)) {
      assertMatch(action, /@[0-9a-f]{40}$/);
    }
  });

  it("names hosts that are its services", () => {
    assertEquals(new URL(config.cache.url).host, "redis:6379");
    assertEquals(new URL(config.database.url).host, "postgres:5432");
  });

  it("starts the service after both servers are healthy and the users are there", () => {
    assertEquals(services.app.depends_on, {
      redis: { condition: "service_healthy" },
      postgres: { condition: "service_healthy" },
      seed: { condition: "service_completed_successfully" },
    });
    assertEquals(services.seed.depends_on, { postgres: { condition: "service_healthy" } });
  });

  it("checks the health of all three", () => {
    for (const { healthcheck } of [services.app, services.redis, services.postgres]) {
      assert((healthcheck.test?.length ?? 0) > 1);
    }
  });

  it("seeds with the permissions that takes and no more", () => {
    const seedConfig = parseConfig(environmentOf(services.seed));
    assertEquals(services.seed.command, [
      "run",
      ...productionFlags(seedConfig).map((flag) =>
        flag.startsWith("--allow-net=") ? "--allow-net=postgres:5432" : flag
      ),
      "--allow-read=/app/db/migrations",
      "seed.ts",
    ]);
  });

  it("keeps the data of both servers in volumes", () => {
    assertEquals(services.redis.volumes, ["redis:/data"]);
    assertEquals(services.postgres.volumes, ["postgres:/var/lib/postgresql/data"]);
    assertEquals(Object.keys(volumes), ["redis", "postgres"]);
    assert(services.redis.command.join(" ").includes("--appendonly yes"));
  });

  it("runs Redis 7 and Postgres 15, the app from the Dockerfile", () => {
    assertMatch(services.redis.image, /^redis:7\b/);
    assertMatch(services.postgres.image, /^postgres:15\b/);
    assertEquals(services.app.image, services.seed.image);
  });

  it("takes every privilege away", () => {
    for (const service of Object.values(services)) {
      assertEquals(service.read_only, true);
      assertEquals(service.cap_drop, ["ALL"]);
      assertEquals(service.security_opt, ["no-new-privileges:true"]);
    }
  });

  it("waits longer for the service to end than the service does", () => {
    const graceMs = Number.parseInt(services.app.stop_grace_period ?? "0") * 1_000;
    assert(graceMs > config.http.shutdownTimeoutMs);
  });
});

/** The files that the COPY instructions name and `.dockerignore` lets through. */
async function includedFiles(): Promise<string[]> {
  const ignore = await Deno.readTextFile(`${root}.dockerignore`);
  const allowed = ignore.split("\n").filter((line) => line.startsWith("!"))
    .map((line) => line.slice(1));
  const sources = linesOf("COPY").flatMap((line) => line.split(/\s+/).slice(0, -1));
  const files: string[] = [];
  for (const source of sources) files.push(...await filesIn(source.replace(/\/$/, "")));
  return files.filter((file) =>
    allowed.some((name) =>
      file === name || file.startsWith(`${name}/`) || (name === "*.ts" && /^[^/]+\.ts$/.test(file))
    )
  );
}

async function filesIn(path: string): Promise<string[]> {
  if (path === "*.ts") {
    const entries = await Array.fromAsync(Deno.readDir(root));
    return entries.map(({ name }) => name).filter((name) => name.endsWith(".ts"));
  }
  const { isDirectory } = await Deno.stat(root + path);
  if (!isDirectory) return [path];
  const files: string[] = [];
  for await (const entry of Deno.readDir(root + path)) {
    files.push(...await filesIn(`${path}/${entry.name}`));
  }
  return files;
}

async function copyInto(folder: string, file: string): Promise<void> {
  await Deno.mkdir(`${folder}/${file}`.replace(/\/[^/]*$/, ""), { recursive: true });
  await Deno.copyFile(root + file, `${folder}/${file}`);
}
