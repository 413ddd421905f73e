import { describe } from "@std/testing/bdd";
import { requiredEnv } from "../support/test_database.ts";
import { attacksSuite } from "./attacks_suite.ts";

describe("a stranger", () => attacksSuite(() => requiredEnv("DATABASE_URL")));
