import { describe } from "@std/testing/bdd";
import { requiredEnv } from "../support/test_database.ts";
import { notificationsSuite } from "./_notifications_suite.ts";

describe("the notifications of writers", () =>
  notificationsSuite(() => requiredEnv("DATABASE_URL")));
