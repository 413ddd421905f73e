import { describe } from "@std/testing/bdd";
import { requiredEnv } from "../support/test_database.ts";
import { bellSuite } from "./_bell_suite.ts";

describe("the bell", () => bellSuite(() => requiredEnv("DATABASE_URL")));
