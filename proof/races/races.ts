/**
 * The interleavings. Each step is taken once the effect of the previous one has been seen.
 *
 * @module
 */
import { setTimeout as delay } from "node:timers/promises";
import { using } from "./cleanup.ts";
import { WatchedDatabase } from "./database.ts";
import { inTime } from "./in_time.ts";
import type { Actor, Item, Stage } from "./stage.ts";

/** The result of a race. */
export interface Verdict {
  /** True if it went as the users of an application hope. */
  readonly kept: boolean;
  /** `fresh`, `stale`, or the number of loads. */
  readonly outcome: string;
  /** A remark on the result. */
  readonly why?: string;
}

/** An interleaving. */
export interface Race {
  /** Its name in reports. */
  readonly name: string;
  /** The events in one line. */
  readonly story: string;
  /** Runs it. */
  run(stage: Stage): Promise<Verdict>;
}

/** Longest wait for a write, or for the load of another instance. */
const PATIENCE_MS = 1_000;
/** Time within which messages of a write have arrived. */
const MESSAGES_MS = 300;
/** Time for which a write that bypasses the application may go unnoticed. */
const NOTICED_WITHIN_MS = 2_000;

/** All races, in the order of reports. The last leaves Redis with an old file. */
export const races: readonly Race[] = [
  {
    name: "a delete lands during a load",
    story: "a row is changed, and its key deleted, before a load of it is stored",
    run: (stage) => deleteInLoad(stage, stage.actors[0]),
  },
  {
    name: "the same, by another instance",
    story: "the writer is not the process that loads",
    run: (stage) => deleteInLoad(stage, stage.actors[1]),
  },
  {
    name: "a reader joins an older look-up",
    story: "a row is written after Redis answered a look-up; a later read shares that answer",
    run: joinedLookUp,
  },
  {
    name: "the feed is lost around a delete",
    story: "an invalidation message is sent while an instance is disconnected",
    run: lostFeed,
  },
  {
    name: "two processes miss together",
    story: "two processes load the same row",
    run: missTogether,
  },
  {
    name: "a write bypasses the application",
    story: "psql changes the row",
    run: writePast,
  },
  {
    name: "Redis restarts from an old file",
    story: "keys deleted since the file was saved come back",
    run: oldFile,
  },
];

/**
 * ```text
 * 1. reader: misses, and Postgres answers the old row
 * 2. writer: UPDATE, COMMIT, delete; acknowledged
 * 3. reader: gets that answer, and stores it
 * ```
 */
async function deleteInLoad(stage: Stage, writer: Actor): Promise<Verdict> {
  const { history, actors: [reader] } = stage;
  const item = stage.item();
  const held = stage.holdPostgres(reader);
  const reading = stage.begin(reader, item);
  history.note("Postgres", `answers ${await held.answered}; the reply is held back`);
  const writing = stage.write(writer, item);
  if (!await inTime(writing, PATIENCE_MS)) {
    history.note(writer.name, "the write waits for the load");
  }
  // Messages of the write come before the fill, as with a slow query.
  await delay(MESSAGES_MS);
  held.release();
  history.note(
    reader.name,
    `its read(${item.id}) -> ${await reading}, as it began before the write`,
  );
  await writing;
  return await judged(stage, item);
}

/**
 * ```text
 * 1. reader A: sends its look-up, and Redis answers the old value
 * 2. writer:   UPDATE, COMMIT, delete; acknowledged
 * 3. reader B: begins after the acknowledgement
 * 4. reader A: gets the answer of step 1
 * ```
 */
async function joinedLookUp(stage: Stage): Promise<Verdict> {
  const { history, actors: [reader, writer] } = stage;
  const item = stage.item();
  await stage.store(writer, item);
  const held = stage.holdRedis(reader, item);
  const early = stage.begin(reader, item);
  if (!await inTime(held.given, PATIENCE_MS)) {
    held.release();
    history.note(reader.name, `its read(${item.id}) -> ${await early}, from memory`);
    await stage.write(writer, item);
    const verdict = await judged(stage, item);
    return { ...verdict, why: "it was sent the value, so it looks nothing up" };
  }
  history.note("Redis", `answers ${item.old}; the reply is held back`);
  await stage.write(writer, item);
  // The memory of another instance may lag behind a write by the time of a message, which is not this race.
  await delay(MESSAGES_MS);
  const late = stage.begin(reader, item);
  await stage.turns();
  held.release();
  history.note(reader.name, `its first read(${item.id}) -> ${await early}`);
  const answer = await late;
  history.note(reader.name, `its second read(${item.id}), after the write, -> ${answer}`);
  const later = await judged(stage, item);
  if (!later.kept) return { ...later, why: "and the old value stays" };
  if (answer === item.new) return later;
  return { kept: false, outcome: "stale", why: "once: the reads after it are fresh" };
}

/**
 * ```text
 * 1. instance 1: has the row in memory, and loses its feed
 * 2. instance 2: UPDATE, COMMIT, delete; acknowledged
 * 3. instance 1: has its feed again
 * ```
 */
async function lostFeed(stage: Stage): Promise<Verdict> {
  const { history, actors: [deaf, writer] } = stage;
  const item = stage.item();
  await stage.fill(item);
  const hasFeed = deaf.feeds.length > 0;
  if (hasFeed) await stage.cutFeed(deaf);
  else history.note(deaf.name, "has no feed that could be cut");
  await stage.write(writer, item);
  await stage.read(deaf, item);
  if (hasFeed) await stage.restoreFeed(deaf);
  // Until another request for the row: a load elsewhere may announce the new value.
  const alone = await judged(stage, item, [deaf]);
  if (!hasFeed) return { ...alone, why: "it has no feed and keeps nothing in memory" };
  if (alone.kept || !(await judged(stage, item)).kept) return alone;
  return { ...alone, why: "until another instance loads the row" };
}

/**
 * ```text
 * 1. instance 1: misses, and queries Postgres
 * 2. instance 2: misses as well
 * ```
 */
async function missTogether(stage: Stage): Promise<Verdict> {
  const { history, actors } = stage;
  const [first, second] = actors;
  const item = stage.item();
  const before = actors.map(({ db }) => db.loads);
  const [one, other] = [stage.holdPostgres(first), stage.holdPostgres(second)];
  const reading = stage.begin(first, item);
  await one.answered;
  history.note(first.name, "queries Postgres");
  const waiting = stage.begin(second, item);
  const queried = await inTime(other.answered, PATIENCE_MS);
  history.note(second.name, queried ? "queries Postgres too" : "waits");
  one.release();
  other.release();
  const answers = await Promise.all([reading, waiting]);
  history.note("both", `read(${item.id}) -> ${answers.join(", ")}`);
  const loads = actors.reduce((sum, { db }, i) => sum + db.loads - (before[i] ?? 0), 0);
  return { kept: loads === 1, outcome: loads === 1 ? "1 load" : `${loads} loads` };
}

/**
 * ```text
 * 1. both instances: have the row
 * 2. psql: UPDATE, COMMIT
 * ```
 */
async function writePast(stage: Stage): Promise<Verdict> {
  const { history, actors } = stage;
  const item = stage.item();
  await stage.fill(item);
  const update = (psql: WatchedDatabase) => psql.update(item.id, item.new);
  await using(new WatchedDatabase(stage.servers.databaseUrl), update);
  const committedAtMs = performance.now();
  history.note("psql", `UPDATE of ${item.id} to ${item.new}, COMMIT`);
  for (;;) {
    const answers = await Promise.all(actors.map(({ app }) => app.read(item.id)));
    const tookMs = Math.round(performance.now() - committedAtMs);
    const isFresh = answers.every((answer) => answer === item.new);
    if (!isFresh && tookMs < NOTICED_WITHIN_MS) {
      await delay(1);
      continue;
    }
    history.note("both", `read(${item.id}) -> ${answers.join(", ")} after ${tookMs} ms`);
    return isFresh ? await judged(stage, item) : { kept: false, outcome: "stale" };
  }
}

/**
 * ```text
 * 1. Redis:      saves its file, with the row in it
 * 2. instance 2: UPDATE, COMMIT, delete; acknowledged
 * 3. Redis:      killed, and started from the file
 * ```
 */
async function oldFile(stage: Stage): Promise<Verdict> {
  const { actors } = stage;
  const item = stage.item();
  await stage.fill(item);
  await stage.saveRedis();
  await stage.write(actors[1], item);
  // Long enough for any further delete of the key.
  await delay(MESSAGES_MS);
  await stage.restartRedis();
  const later = await stage.openInstance("instance 3");
  return await judged(stage, item, [...actors, later]);
}

/** Tells whether all later reads get the new value, after the time for messages. */
async function judged(
  stage: Stage,
  item: Item,
  actors: readonly Actor[] = stage.actors,
): Promise<Verdict> {
  const kept = await stage.laterReads(item, actors);
  return { kept, outcome: kept ? "fresh" : "stale" };
}
