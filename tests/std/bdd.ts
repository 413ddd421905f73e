/**
 * A stand-in for `jsr:@std/testing/bdd`, for networks that refuse JSR. It has only functions that the
 * real package has, with their signatures and semantics.
 *
 * It registers with `Deno.test` as the real package does, not with `node:test`: Deno exempts the
 * tests of `node:test` from its leak sanitizers.
 *
 * @module
 */

/** The body of a test. */
type TestBody = (t: Deno.TestContext) => void | Promise<void>;
/** The body of a hook. */
type HookBody = () => void | Promise<void>;
/** What a test or a suite may ask of Deno. */
type TestOptions = Pick<
  Deno.TestDefinition,
  "ignore" | "sanitizeExit" | "sanitizeOps" | "sanitizeResources"
>;

/** Registers a suite. */
interface Describe {
  /** Registers a suite whose tests are registered by `fn`. */
  (name: string, fn: () => void | undefined): void;
  /** Registers a suite with options. */
  (name: string, options: TestOptions, fn: () => void | undefined): void;
  /** Registers a suite that is not run. */
  ignore(name: string, fn: () => void | undefined): void;
  /** As `ignore`. */
  skip(name: string, fn: () => void | undefined): void;
}

/** Registers a test. */
interface It {
  /** Registers a test. */
  (name: string, fn: TestBody): void;
  /** Registers a test with options. */
  (name: string, options: TestOptions, fn: TestBody): void;
  /** Registers a test that is not run. */
  ignore(name: string, fn: TestBody): void;
  /** As `ignore`. */
  skip(name: string, fn: TestBody): void;
}

type HookName = "beforeAll" | "afterAll" | "beforeEach" | "afterEach";

interface Case {
  readonly name: string;
  readonly options: TestOptions;
  readonly run: TestBody;
}

interface Suite {
  readonly name: string;
  readonly options: TestOptions;
  readonly hooks: Readonly<Record<HookName, HookBody[]>>;
  readonly children: (Suite | Case)[];
}

// Registration is a conversation with one global registry, Deno's, so what is being registered is
// module state here as it is in the real package.
let current: Suite | undefined;
let started = false;
let runningCount = 0;

/** Groups tests. */
export const describe: Describe = Object.assign(registerSuite, {
  ignore: ignoreSuite,
  skip: ignoreSuite,
});

/** Registers a test in the suite being described, or on its own. */
export const it: It = Object.assign(registerCase, { ignore: ignoreCase, skip: ignoreCase });

/** Runs `fn` once before the tests of the suite. If it fails, the suite fails and no test runs. */
export function beforeAll(fn: HookBody): void {
  addHook("beforeAll", fn);
}

/** Runs `fn` once after the tests of the suite, whatever they did. */
export function afterAll(fn: HookBody): void {
  addHook("afterAll", fn);
}

/** Runs `fn` before each test of the suite and of the suites in it, outer hooks first. */
export function beforeEach(fn: HookBody): void {
  addHook("beforeEach", fn);
}

/** Runs `fn` after each test of the suite and of the suites in it, inner hooks first. */
export function afterEach(fn: HookBody): void {
  addHook("afterEach", fn);
}

function registerSuite(
  name: string,
  optionsOrFn: TestOptions | (() => void | undefined),
  maybeFn?: () => void | undefined,
): void {
  if (runningCount > 0) {
    throw new Error(
      "Cannot register new test suites after already registered test cases start running",
    );
  }
  started = true;
  const [options, fn] = split(optionsOrFn, maybeFn);
  const suite = newSuite(name, options);
  if (!options.ignore) describeInto(suite, fn);
  if (current) current.children.push(suite);
  else registerWithDeno(suite);
}

function ignoreSuite(name: string, fn: () => void | undefined): void {
  registerSuite(name, { ignore: true }, fn);
}

function registerCase(
  name: string,
  optionsOrFn: TestOptions | TestBody,
  maybeFn?: TestBody,
): void {
  if (runningCount > 0) {
    throw new Error(
      "Cannot register new test cases after already registered test cases start running",
    );
  }
  started = true;
  const [options, run] = split(optionsOrFn, maybeFn);
  const test: Case = { name, options, run };
  if (current) current.children.push(test);
  else Deno.test({ ...options, name, fn: (t) => whileRunning(async () => await run(t)) });
}

function ignoreCase(name: string, fn: TestBody): void {
  registerCase(name, { ignore: true }, fn);
}

function addHook(name: HookName, fn: HookBody): void {
  if (!current) {
    if (started) throw new Error("Cannot add global hooks after a global test is registered");
    current = newSuite("global", {});
    registerWithDeno(current);
  }
  current.hooks[name].push(fn);
}

function newSuite(name: string, options: TestOptions): Suite {
  return {
    name,
    options,
    hooks: { beforeAll: [], afterAll: [], beforeEach: [], afterEach: [] },
    children: [],
  };
}

function describeInto(suite: Suite, fn: () => unknown): void {
  const outer = current;
  current = suite;
  try {
    if (fn() instanceof Promise) {
      throw new Error(
        'Returning a Promise from "describe" is not supported: tests must be defined synchronously',
      );
    }
  } finally {
    current = outer;
  }
}

function registerWithDeno(suite: Suite): void {
  Deno.test({
    ...suite.options,
    name: suite.name,
    fn: (t) => whileRunning(() => runSuite(t, suite, [])),
  });
}

async function whileRunning(run: () => Promise<void>): Promise<void> {
  runningCount++;
  try {
    await run();
  } finally {
    runningCount--;
  }
}

async function runSuite(
  t: Deno.TestContext,
  suite: Suite,
  ancestors: readonly Suite[],
): Promise<void> {
  await runHooks(suite, "beforeAll");
  const path = [...ancestors, suite];
  try {
    for (const child of suite.children) {
      await t.step({
        ...child.options,
        name: child.name,
        fn: (inner) =>
          "children" in child ? runSuite(inner, child, path) : runCase(inner, child, path),
      });
    }
  } finally {
    await runHooks(suite, "afterAll");
  }
}

/** Runs a test within the each-hooks of the suites around it, the outermost first and last. */
async function runCase(t: Deno.TestContext, test: Case, path: readonly Suite[]): Promise<void> {
  const [outer, ...inner] = path;
  if (!outer) return await test.run(t);
  await runHooks(outer, "beforeEach");
  try {
    await runCase(t, test, inner);
  } finally {
    await runHooks(outer, "afterEach");
  }
}

async function runHooks(suite: Suite, name: HookName): Promise<void> {
  for (const hook of suite.hooks[name]) await hook();
}

function split<Fn>(optionsOrFn: TestOptions | Fn, fn: Fn | undefined): [TestOptions, Fn] {
  if (fn !== undefined) return [isOptions(optionsOrFn) ? optionsOrFn : {}, fn];
  if (isOptions(optionsOrFn)) throw new TypeError("Cannot register a test: it has no body");
  return [{}, optionsOrFn];
}

function isOptions(value: unknown): value is TestOptions {
  return typeof value === "object" && value !== null;
}
