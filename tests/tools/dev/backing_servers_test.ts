import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import {
  type ChoiceOptions,
  chooseServers,
  type ComposeService,
  type Surroundings,
} from "../../../tools/dev/backing_servers.ts";

const REDIS = "redis://here";
const CLUSTER = "redis-cluster://here,there";
const POSTGRES = "postgres://here/db";
const OTHER_POSTGRES = "postgres://me@here/db";

interface Machine {
  readonly answering?: readonly string[];
  readonly compose?: boolean;
}

/** A machine that has what is named, and writes down what it was asked. */
class FakeMachine implements Surroundings {
  readonly asked: string[] = [];
  readonly #machine: Machine;

  constructor(machine: Machine) {
    this.#machine = machine;
  }

  redisAnswers(url: string): Promise<boolean> {
    return this.#answers(url);
  }

  postgresAnswers(url: string): Promise<boolean> {
    return this.#answers(url);
  }

  startWithCompose(services: readonly ComposeService[]): Promise<boolean> {
    this.asked.push(`compose ${services.join(" ")}`);
    return Promise.resolve(this.#machine.compose ?? false);
  }

  startCluster(): Promise<string> {
    this.asked.push("cluster");
    return Promise.resolve(CLUSTER);
  }

  startEmbeddedPostgres(): Promise<string> {
    this.asked.push("embedded");
    return Promise.resolve("postgres://embedded");
  }

  #answers(url: string): Promise<boolean> {
    this.asked.push(url);
    return Promise.resolve(this.#machine.answering?.includes(url) ?? false);
  }
}

async function choose(
  machine: Machine,
  options: Partial<ChoiceOptions> = {},
): Promise<{ redis: string; postgres: string; asked: string[] }> {
  const fake = new FakeMachine(machine);
  const { redis, postgres } = await chooseServers(fake, {
    configured: {},
    redisUrls: [REDIS],
    postgresUrls: [POSTGRES, OTHER_POSTGRES],
    embedded: false,
    cluster: false,
    ...options,
  });
  return {
    redis: `${redis.origin} ${redis.url}`,
    postgres: `${postgres.origin} ${postgres.url}`,
    asked: fake.asked,
  };
}

describe("chooseServers()", () => {
  it("takes what is configured without a question", async () => {
    assertEquals(
      await choose({ answering: [REDIS, POSTGRES], compose: true }, {
        configured: { redis: "redis://mine", postgres: "postgres://mine" },
      }),
      { redis: "configured redis://mine", postgres: "configured postgres://mine", asked: [] },
    );
  });

  it("takes what answers before it starts anything", async () => {
    assertEquals(await choose({ answering: [REDIS, POSTGRES], compose: true }), {
      redis: `found ${REDIS}`,
      postgres: `found ${POSTGRES}`,
      asked: [REDIS, POSTGRES],
    });
  });

  it("tries the next login when the first is refused", async () => {
    const { postgres, asked } = await choose({ answering: [REDIS, OTHER_POSTGRES] });
    assertEquals(postgres, `found ${OTHER_POSTGRES}`);
    assertEquals(asked, [REDIS, POSTGRES, OTHER_POSTGRES]);
  });

  it("starts both with Docker Compose where nothing answers and an engine runs", async () => {
    assertEquals(await choose({ compose: true }), {
      redis: `compose ${REDIS}`,
      postgres: `compose ${POSTGRES}`,
      asked: [REDIS, POSTGRES, OTHER_POSTGRES, "compose redis postgres"],
    });
  });

  it("takes the embedded default where there is nothing at all", async () => {
    assertEquals(await choose({}), {
      redis: "embedded memory:",
      postgres: "embedded postgres://embedded",
      asked: [REDIS, POSTGRES, OTHER_POSTGRES, "compose redis postgres", "embedded"],
    });
  });

  it("chooses each of the two by itself", async () => {
    const composed = await choose({ answering: [POSTGRES], compose: true });
    assertEquals([composed.redis, composed.postgres], [`compose ${REDIS}`, `found ${POSTGRES}`]);
    assertEquals(composed.asked.at(-1), "compose redis");

    const embedded = await choose({ answering: [REDIS] });
    assertEquals([embedded.redis, embedded.postgres], [
      `found ${REDIS}`,
      "embedded postgres://embedded",
    ]);
    assertEquals(embedded.asked.slice(-2), ["compose postgres", "embedded"]);

    const configured = await choose({}, { configured: { postgres: "postgres://mine" } });
    assertEquals([configured.redis, configured.postgres], [
      "embedded memory:",
      "configured postgres://mine",
    ]);
    assertEquals(configured.asked, [REDIS, "compose redis"]);
  });

  it("takes the embedded default whatever else there is, if it is told to", async () => {
    assertEquals(
      await choose({ answering: [REDIS, POSTGRES], compose: true }, {
        embedded: true,
        configured: { redis: "redis://mine", postgres: "postgres://mine" },
      }),
      {
        redis: "embedded memory:",
        postgres: "embedded postgres://embedded",
        asked: ["embedded"],
      },
    );
  });

  it("takes a cluster of its own before any other Redis, if it is told to", async () => {
    assertEquals(
      await choose({ answering: [REDIS, POSTGRES] }, {
        cluster: true,
        configured: { redis: "redis://mine" },
      }),
      {
        redis: `cluster ${CLUSTER}`,
        postgres: `found ${POSTGRES}`,
        asked: ["cluster", POSTGRES],
      },
    );
    assertEquals(await choose({}, { cluster: true, embedded: true }), {
      redis: `cluster ${CLUSTER}`,
      postgres: "embedded postgres://embedded",
      asked: ["cluster", "embedded"],
    });
  });
});
