import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { messageOf } from "../../server/message_of.ts";

describe("messageOf()", () => {
  it("tells the message of an error and of what caused it", () => {
    const cause = new Error("connection refused");
    assertEquals(messageOf(new TypeError("no", { cause })), "no: connection refused");
    assertEquals(messageOf("text"), "text");
  });

  it("tells once what a message repeats of its cause", () => {
    const cause = new Error("connection refused");
    const outer = new Error("Cannot query: connection refused", { cause });
    assertEquals(messageOf(outer), "Cannot query: connection refused");
  });

  it("tells each of several reasons, and the name where there is nothing else", () => {
    const refused = ["::1", "127.0.0.1"].map((host) => new Error(`connect ECONNREFUSED ${host}`));
    assertEquals(
      messageOf(new AggregateError(refused)),
      "connect ECONNREFUSED ::1; connect ECONNREFUSED 127.0.0.1",
    );
    assertEquals(messageOf(new RangeError("")), "RangeError");
  });

  it("ends with an error that is its own cause", () => {
    const error = new Error("round");
    error.cause = error;
    assertEquals(messageOf(error), "round");
  });
});
