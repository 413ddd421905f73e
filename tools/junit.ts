/**
 * Counts tests in the JUnit report of `deno test`.
 *
 * @module
 */
import { DOMParser, type Element } from "@xmldom/xmldom";

/** The result of a test run. */
export interface TestCounts {
  /** Tests that passed. */
  readonly passed: number;
  /** Tests that failed, and suites that failed on their own (in a hook, by a leak) or were cut short. */
  readonly failed: number;
  /** Tests marked as not to be run. */
  readonly skipped: number;
}

/** Deno's message for a suite that failed only because a test in it did. */
const stepsFailed = /^\d+ test steps? failed/;

/**
 * Counts the leaves of a report: a suite is not a test, but one that fails although none of its tests does (a
 * hook threw, something leaked) is a failure of its own.
 *
 * @throws {Error} The report is not well-formed XML.
 */
export function countTests(xml: string): TestCounts {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for (const file of elementsOf(xml, "testsuite")) {
    const tests = [...file.getElementsByTagName("testcase")];
    const suites = parentNames(tests.map(nameOf));
    for (const test of tests) {
      const failure = test.getElementsByTagName("failure").item(0) ??
        test.getElementsByTagName("error").item(0);
      const isSuite = suites.has(nameOf(test));
      if (failure) {
        const borrowed = stepsFailed.test(failure.getAttribute("message") ?? "");
        if (!borrowed) counts.failed++;
      } else if (test.getElementsByTagName("skipped").length > 0) counts.skipped++;
      else if (!isSuite) counts.passed++;
    }
  }
  return counts;
}

/** Every name that another name extends: Deno names a step `suite > inner suite > test`. */
function parentNames(names: readonly string[]): Set<string> {
  const parents = new Set<string>();
  for (const name of names) {
    for (let at = name.indexOf(" > "); at >= 0; at = name.indexOf(" > ", at + 1)) {
      parents.add(name.slice(0, at));
    }
  }
  return parents;
}

function elementsOf(xml: string, tag: string): Element[] {
  const parser = new DOMParser({
    onError: (level, message) => {
      throw new Error(`Cannot read the test report: ${level}: ${message}`);
    },
  });
  // A failed test may quote bytes that are not text, about which the parser would warn.
  const text = xml.replaceAll("\ufffd", "?");
  return [...parser.parseFromString(text, "text/xml").getElementsByTagName(tag)];
}

function nameOf(test: Element): string {
  return test.getAttribute("name") ?? "";
}
