/**
 * One row of the benchmark: who was measured, and what was promised.
 *
 * @module
 */
import { type Contender, interleave, ratioOf, type Score } from "./rounds.ts";

/** What a figure counts. Less of a duration is better, more of a rate is. */
export type Unit = "µs" | "req/s";

/** A promise about two contenders. */
export interface Target {
  /** The contender that is promised to do well. */
  readonly of: string;
  /** The one it is compared with. */
  readonly against: string;
  /** How many times as fast it has to be. */
  readonly atLeast: number;
}

/** What came of a promise. */
export interface Outcome extends Target {
  /** How many times as fast it was. */
  readonly ratio: number;
  /** Whether that is enough. */
  readonly met: boolean;
}

/** What is measured. */
export interface Plan {
  /** What the work is. */
  readonly title: string;
  /** What the figures count. */
  readonly unit: Unit;
  /** Who does it. */
  readonly contenders: readonly Contender[];
  /** What was promised. */
  readonly targets: readonly Target[];
}

/** What was measured. */
export interface Row {
  /** What the work was. */
  readonly title: string;
  /** What the figures count. */
  readonly unit: Unit;
  /** What everyone scored. */
  readonly scores: readonly Score[];
  /** What came of the promises. */
  readonly outcomes: readonly Outcome[];
}

/** Runs a plan. */
export async function measure(plan: Plan, roundsCount: number): Promise<Row> {
  const { title, unit, contenders, targets } = plan;
  const scores = await interleave(contenders, roundsCount);
  const scoreOf = (name: string): Score => {
    const found = scores.find((score) => score.name === name);
    if (found === undefined) throw new Error(`Cannot compare ${name}: it was not measured`);
    return found;
  };
  const outcomes = targets.map((target) => {
    const [of, against] = [scoreOf(target.of), scoreOf(target.against)];
    const ratio = unit === "µs" ? ratioOf(against, of) : ratioOf(of, against);
    return { ...target, ratio, met: ratio >= target.atLeast };
  });
  return { title, unit, scores, outcomes };
}
