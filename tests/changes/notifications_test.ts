import { describe } from "@std/testing/bdd";
import { requiredEnv } from "../support/test_database.ts";
import { notificationsSuite } from "./notifications_suite.ts";

describe("the notifications of writers", () =>
  notificationsSuite(() => requiredEnv("DATABASE_URL")));
