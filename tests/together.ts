/**
 * Test files as one: `deno test tests/together.ts -- PATH…`.
 *
 * Deno loads and compiles what files import once for each of them, which takes more of the processor than most tests.
 *
 * @module
 */
for (const path of Deno.args) await import(new URL(`../${path}`, import.meta.url).href);
