import { assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { countTests } from "../../tools/junit.ts";

describe("countTests()", () => {
  it("counts the leaves, however deep", () => {
    assertEquals(
      countTests(report(["a"], ["a > b"], ["a > b > c"], ["a > b > d"], ["e"])),
      { passed: 3, failed: 0, skipped: 0 },
    );
  });

  it("counts a failed test once, not again for its suites", () => {
    assertEquals(
      countTests(report(["a", "1 test step failed"], ["a > b", "2 test steps failed."], [
        "a > b > c",
        "Uncaught Error",
      ])),
      { passed: 0, failed: 1, skipped: 0 },
    );
  });

  it("counts a suite that fails on its own, beside its tests", () => {
    assertEquals(countTests(report(["a", "Leaks detected"], ["a > b"])), {
      passed: 1,
      failed: 1,
      skipped: 0,
    });
  });

  it("counts what an uncaught error has cut short as failed", () => {
    const cancelled = '<error message="Cancelled"/>';
    const tests: ReportedTest[] = [["a", undefined, cancelled], ["a > b"], ["c", "", cancelled]];
    assertEquals(countTests(report(...tests)), { passed: 1, failed: 2, skipped: 0 });
  });

  it("counts what is skipped as neither", () => {
    assertEquals(countTests(report(["a"], ["a > b", undefined, "<skipped/>"])), {
      passed: 0,
      failed: 0,
      skipped: 1,
    });
  });

  it("does not take a test of one file for the suite of another", () => {
    const xml = `<testsuites><testsuite><testcase name="a"/></testsuite>
      <testsuite><testcase name="a"/><testcase name="a &gt; b"/></testsuite></testsuites>`;
    assertEquals(countTests(xml), { passed: 2, failed: 0, skipped: 0 });
  });

  it("takes an arrow in a test's name for no more than that", () => {
    assertEquals(countTests(report(["a"], ["a > 2 > 1 holds"])).passed, 1);
  });

  it("throws on a report that was cut off", () => {
    assertThrows(() => countTests("<testsuites><testsuite>"), Error, "Cannot read the test report");
  });
});

type ReportedTest = [name: string, failure?: string | undefined, inner?: string];

function report(...tests: ReportedTest[]): string {
  const cases = tests.map(([name, failure, inner = ""]) =>
    `<testcase name="${name.replaceAll(">", "&gt;")}">${
      failure ? `<failure message="${failure}">x</failure>` : inner
    }</testcase>`
  );
  return `<testsuites><testsuite>${cases.join("")}</testsuite></testsuites>`;
}
