import { describe } from "@std/testing/bdd";
import { requiredEnv } from "../support/test_database.ts";
import { watchSuite } from "./watch_suite.ts";

describe("lookaside.watch()", () => watchSuite(() => requiredEnv("DATABASE_URL")));
