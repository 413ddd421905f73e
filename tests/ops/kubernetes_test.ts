import { assert, assertEquals, assertGreater, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { DockerfileParser } from "dockerfile-ast";
import { Deployment } from "kubernetes-models/apps/v1/Deployment";
import { HorizontalPodAutoscaler } from "kubernetes-models/autoscaling/v2/HorizontalPodAutoscaler";
import { Job } from "kubernetes-models/batch/v1/Job";
import { NetworkPolicy } from "kubernetes-models/networking.k8s.io/v1/NetworkPolicy";
import { PodDisruptionBudget } from "kubernetes-models/policy/v1/PodDisruptionBudget";
import { Service } from "kubernetes-models/v1/Service";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import { z } from "zod";
import { parseConfig, VARIABLE_NAMES } from "../../server/config.ts";
import { netAddresses, productionFlags } from "../../tools/permissions.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const folder = `${root}ops/kubernetes/`;

/** A manifest whose schema is known: how it is validated, and what its type is called. */
interface Kind {
  readonly validate: (manifest: never) => void;
  readonly path: string;
}

const KINDS: Readonly<Record<string, Kind>> = {
  Job: { validate: (manifest) => new Job(manifest).validate(), path: "batch/v1/Job" },
  Deployment: {
    validate: (manifest) => new Deployment(manifest).validate(),
    path: "apps/v1/Deployment",
  },
  Service: { validate: (manifest) => new Service(manifest).validate(), path: "v1/Service" },
  HorizontalPodAutoscaler: {
    validate: (manifest) => new HorizontalPodAutoscaler(manifest).validate(),
    path: "autoscaling/v2/HorizontalPodAutoscaler",
  },
  PodDisruptionBudget: {
    validate: (manifest) => new PodDisruptionBudget(manifest).validate(),
    path: "policy/v1/PodDisruptionBudget",
  },
  NetworkPolicy: {
    validate: (manifest) => new NetworkPolicy(manifest).validate(),
    path: "networking.k8s.io/v1/NetworkPolicy",
  },
};

const Named = z.looseObject({ kind: z.string(), apiVersion: z.string() });
const Labels = z.record(z.string(), z.string());
const Pods = z.object({
  kind: z.literal("Deployment"),
  spec: z.object({
    selector: z.object({ matchLabels: Labels }),
    template: z.object({
      metadata: z.object({ labels: Labels }),
      spec: z.object({
        terminationGracePeriodSeconds: z.number(),
        containers: z.tuple([z.object({
          env: z.array(z.object({ name: z.string(), value: z.string().default("s3cret") })),
          ports: z.array(z.object({ name: z.string(), containerPort: z.number() })),
          lifecycle: z.object({ preStop: z.object({ sleep: z.object({ seconds: z.number() }) }) }),
        })]),
      }),
    }),
  }),
});
const Rules = z.object({
  kind: z.literal("NetworkPolicy"),
  spec: z.object({
    podSelector: z.object({ matchLabels: Labels }),
    policyTypes: z.array(z.string()),
    ingress: z.array(z.object({ ports: z.array(z.object({ port: z.number() })) })),
    egress: z.array(z.object({
      to: z.array(z.object({ podSelector: z.object({ matchLabels: Labels }) })),
      ports: z.array(z.object({ port: z.number() })),
    })),
  }),
});

const { resources } = z.object({ resources: z.array(z.string()) })
  .parse(await read("kustomization.yaml"));
const manifests = await Promise.all(resources.map(async (name) => Named.parse(await read(name))));
const deployment = Pods.parse(manifests.find(({ kind }) => kind === "Deployment")).spec;
const policy = Rules.parse(manifests.find(({ kind }) => kind === "NetworkPolicy")).spec;
const [container] = deployment.template.spec.containers;
const env = Object.fromEntries(container.env.map(({ name, value }) => [name, value]));
const config = parseConfig(env);

async function read(name: string): Promise<unknown> {
  return parse(await Deno.readTextFile(folder + name));
}

function validate(manifest: z.infer<typeof Named>): void {
  const kind = KINDS[manifest.kind];
  assert(kind !== undefined, manifest.kind);
  kind.validate(manifest as never);
}

describe("the manifests for Kubernetes", () => {
  it("are all that kustomize applies", async () => {
    const files = await Array.fromAsync(Deno.readDir(folder));
    const names = files.map(({ name }) => name).filter((name) => name !== "kustomization.yaml");
    assertEquals(resources.toSorted(), names.toSorted());
    assertEquals(manifests.map(({ kind }) => kind).toSorted(), Object.keys(KINDS).toSorted());
  });

  for (const manifest of manifests) {
    it(`hold to the schema of their API: ${manifest.kind}`, () => {
      validate(manifest);
      assertThrows(() => validate({ ...manifest, spec: "none" }));
    });
  }

  // The schemas let unknown fields pass, as the API server does. The types do not.
  it("have no field that their kind does not know", async () => {
    const program = await Deno.makeTempDir({ prefix: "lookaside_manifests_" });
    try {
      const { imports } = JSON.parse(await Deno.readTextFile(`${root}tests/deno.json`));
      const models = "kubernetes-models/";
      const map = { imports: { [models]: imports[models] } };
      await Deno.writeTextFile(`${program}/deno.json`, JSON.stringify(map));
      const checks = manifests.map((manifest) => {
        const type = `I${manifest.kind}`;
        return `import type { ${type} } from "${models}${KINDS[manifest.kind]?.path}";\n` +
          `(${JSON.stringify(manifest)}) satisfies ${type};\n`;
      });
      assertEquals(await checked(program, checks.join("")), true);
      const misspelt = checks.map((check) => check.replace('"minReplicas"', '"minReplica"'));
      assertEquals(await checked(program, misspelt.join("")), false);
    } finally {
      await Deno.remove(program, { recursive: true });
    }
  });

  it("select the pods that the Deployment makes", () => {
    const { labels } = deployment.template.metadata;
    for (const selector of [deployment.selector, policy.podSelector]) {
      assertEquals(selector.matchLabels, labels);
    }
  });

  it("set only variables that the service reads", () => {
    assertEquals(Object.keys(env).filter((name) => !VARIABLE_NAMES.includes(name)), []);
  });

  it("name the hosts that the image's command permits", async () => {
    const dockerfile = DockerfileParser.parse(await Deno.readTextFile(`${root}Dockerfile`));
    const command = dockerfile.getCMDs().at(-1)?.getArgumentsContent() ?? "";
    for (const flag of productionFlags(config)) assert(command.includes(`"${flag}"`), flag);
  });

  it("make the schema as the Compose file does, and no users", async () => {
    const compose = parse(await Deno.readTextFile(`${root}docker-compose.yml`));
    const job = z.object({
      spec: z.object({
        template: z.object({
          spec: z.object({ containers: z.tuple([z.object({ args: z.array(z.string()) })]) }),
        }),
      }),
    }).parse(manifests.find(({ kind }) => kind === "Job"));
    const { args } = job.spec.template.spec.containers[0];
    assertEquals(args, [...compose.services.seed.command, "--count", "0"]);
  });

  it("permit the network what the process is permitted, and name resolution", () => {
    const [listening, ...reached] = netAddresses(config);
    assertEquals(policy.policyTypes, ["Ingress", "Egress"]);
    assertEquals(policy.ingress.flatMap(({ ports }) => ports.map(({ port }) => port)), [
      Number(listening?.split(":").at(-1)),
    ]);
    const permitted = policy.egress.flatMap(({ to, ports }) =>
      to.flatMap(({ podSelector: { matchLabels } }) =>
        ports.map(({ port }) => `${Object.values(matchLabels).join()}:${port}`)
      )
    );
    assertEquals(permitted, [...reached, "kube-dns:53", "kube-dns:53"]);
  });

  it("send requests to the port that the service listens on", () => {
    assertEquals(container.ports, [{ name: "http", containerPort: config.http.port }]);
  });

  it("wait longer for a pod to end than it takes to finish what runs", () => {
    const { terminationGracePeriodSeconds } = deployment.template.spec;
    const pauseMs = container.lifecycle.preStop.sleep.seconds * 1_000;
    const closeMs = 5_000;
    assertGreater(
      terminationGracePeriodSeconds * 1_000,
      pauseMs + config.http.shutdownTimeoutMs + closeMs,
    );
  });
});

/** Whether the types of a program hold. */
async function checked(cwd: string, text: string): Promise<boolean> {
  await Deno.writeTextFile(`${cwd}/manifests.ts`, text);
  const { success } = await new Deno.Command(Deno.execPath(), {
    args: ["check", "--quiet", "--no-lock", "manifests.ts"],
    cwd,
    stdout: "null",
    stderr: "null",
  }).output();
  return success;
}
