import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { createApi } from "./api_fixture.ts";

const PROXY = "9.9.9.9";

/** Whom a limit on all counts, and how often it was told that this cannot be read. */
async function counted(
  headers: HeadersInit,
  { address = PROXY, trustedProxies = 1 } = {},
): Promise<{ client: string | undefined; unreadable: number }> {
  let client: string | undefined;
  let unreadable = 0;
  const clients = {
    name: "client",
    limit: 9,
    windowMs: 60_000,
    take: (each: string) => {
      client = each;
      return Promise.resolve({ allowed: true, remaining: 1, resetMs: 1 });
    },
  };
  const onUnreadable = () => void unreadable++;
  await using api = createApi({ limits: { clients, trustedProxies, onUnreadable } });
  const request = new Request("http://x/users/1", { headers });
  await (await api.fetch(request, { remoteAddr: { hostname: address } })).body?.cancel();
  return { client, unreadable };
}

describe("a client, to a limit,", () => {
  for (
    const [address, client] of [
      ["9.9.9.9", "9.9.9.9"],
      ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
      ["2001:db8::6", "2001:db8:0:0::/64"],
      ["::1", "0:0:0:0::/64"],
      ["::ffff:9.9.9.9", "9.9.9.9"],
    ] as const
  ) {
    it(`that connects from ${address} is ${client}, whatever it says`, async () => {
      const headers = { "x-forwarded-for": "6.6.6.6", "forwarded": "for=6.6.6.6" };
      const told = await counted(headers, { address, trustedProxies: 0 });
      assertEquals(told, { client, unreadable: 0 });
    });
  }

  for (
    const [node, client] of [
      ["4.4.4.4", "4.4.4.4"],
      ["4.4.4.4:51234", "4.4.4.4"],
      ['"4.4.4.4:51234"', "4.4.4.4"],
      ["2001:db8::1", "2001:db8:0:0::/64"],
      ["[2001:db8::1]", "2001:db8:0:0::/64"],
      ["[2001:db8::1]:443", "2001:db8:0:0::/64"],
      ['"[2001:db8::1]:443"', "2001:db8:0:0::/64"],
      ['"[2001:db8:0:0:9::]:_port"', "2001:db8:0:0::/64"],
      ["::ffff:4.4.4.4", "4.4.4.4"],
      ["_hidden", "_hidden"],
      ["_SEVKISEK:_port", "_SEVKISEK"],
    ] as const
  ) {
    it(`that a proxy calls ${node} is ${client}`, async () => {
      const right = { client, unreadable: 0 };
      assertEquals(await counted({ "x-forwarded-for": `6.6.6.6, ${node}` }), right);
      const forwarded = `for=6.6.6.6;by=x, proto=https;For=${node};by="a,b;c"`;
      assertEquals(await counted({ forwarded }), right);
      assertEquals(await counted({ forwarded, "x-forwarded-for": node }), right);
    });
  }

  it("is who the outer of two proxies saw", async () => {
    const headers = { "x-forwarded-for": "6.6.6.6, 5.5.5.5, 4.4.4.4" };
    assertEquals((await counted(headers, { trustedProxies: 2 })).client, "5.5.5.5");
    const forwarded = "for=6.6.6.6, for=5.5.5.5, for=4.4.4.4";
    assertEquals((await counted({ forwarded }, { trustedProxies: 2 })).client, "5.5.5.5");
  });

  for (
    const headers of [
      {},
      { "x-forwarded-for": "" },
      { "x-forwarded-for": "me" },
      { "x-forwarded-for": "unknown" },
      { "x-forwarded-for": "4.4.4.4.4" },
      { "forwarded": "for=unknown" },
      { "forwarded": "by=4.4.4.4" },
      // Each proxy writes one of the two, and passes on what the client made up of the other.
      { "x-forwarded-for": "6.6.6.6", "forwarded": "for=4.4.4.4" },
      { "x-forwarded-for": "4.4.4.4", "forwarded": "nonsense" },
      // A quote of the client's that would hide what the proxy adds.
      { "forwarded": 'for=6.6.6.6;x=", for="[2001:db8::1]"' },
      { "forwarded": 'for="6.6.6.6, for=4.4.4.4' },
    ]
  ) {
    it(`is the proxy, which is told, where that says ${JSON.stringify(headers)}`, async () => {
      assertEquals(await counted(headers), { client: PROXY, unreadable: 1 });
    });
  }
});
