/**
 * Interleaved rounds: on a shared machine only figures that were taken next to each other compare.
 *
 * @module
 */

/** Something that is measured against others. */
export interface Contender {
  /** What the table calls it. */
  readonly name: string;
  /** Does the work once, and answers its figure in the row's unit. */
  readonly measure: () => Promise<number>;
}

/** What a contender scored. */
export interface Score {
  /** What the table calls it. */
  readonly name: string;
  /** The middle of its rounds. */
  readonly median: number;
  /** Every round, in order. */
  readonly rounds: readonly number[];
}

/**
 * Lets the contenders take turns, after one round that does not count. The order stays: who measures
 * twice in a row, as at each turn of a reversed order, seems dearer than the same work between others.
 */
export async function interleave(
  contenders: readonly Contender[],
  roundsCount: number,
): Promise<Score[]> {
  const rounds = new Map<string, number[]>(contenders.map(({ name }) => [name, []]));
  for (const { measure } of contenders) await measure();
  for (let round = 0; round < roundsCount; round++) {
    for (const { name, measure } of contenders) rounds.get(name)?.push(await measure());
  }
  return [...rounds].map(([name, figures]) => ({ name, median: median(figures), rounds: figures }));
}

/**
 * How many times the figure of `above` that of `below` is: the median of the rounds' own ratios, so
 * that a slow round of both counts for neither.
 */
export function ratioOf(above: Score, below: Score): number {
  return median(above.rounds.map((figure, round) => figure / (below.rounds[round] ?? NaN)));
}

/** The middle, or the mean of the two in the middle. NaN of nothing. */
function median(figures: readonly number[]): number {
  const sorted = figures.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  const low = sorted[Math.ceil(middle) - 1] ?? NaN;
  const high = sorted[Math.floor(middle)] ?? NaN;
  return (low + high) / 2;
}
