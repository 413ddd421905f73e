import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { becomesLive, focused, openDashboard, startStage, tile } from "./_dashboard_page.ts";

const TOKEN = "correct-horse-battery";

describe("the dashboard of a guarded service", () => {
  it("asks for the token, keeps it for this tab alone, and shows nothing without it", async () => {
    await using stage = await startStage(5, { ADMIN_TOKEN: TOKEN });
    const { service, browser } = stage;
    await using dashboard = await openDashboard(browser, service.url);
    const { page } = dashboard;
    const requested: string[] = [];
    page.on("request", (request) => void requested.push(request.url()));

    const field = page.getByLabel(/This service wants its admin token/);
    await field.waitFor();
    assertEquals(await focused(page), "input This service wants its admin token (ADMIN_TOKEN)");
    assertEquals(await page.locator("#tiles").innerText(), "");
    assertEquals(await page.locator("main[inert]").count(), 1);

    for (const [token, status] of [["wrong", 401], ["two words, and 5 €", 400]] as const) {
      const answered = page.waitForResponse((response) => response.url().endsWith("/cache/live"));
      await field.fill(token);
      await page.keyboard.press("Enter");
      assertEquals((await answered).status(), status);
      await page.getByRole("alert").filter({ hasText: "That token was not accepted." }).waitFor();
    }
    await field.fill(TOKEN);
    await page.getByRole("button", { name: "Connect" }).click();
    await becomesLive(page);
    assertEquals(await field.isVisible(), false);
    assertEquals(await page.locator("main[inert]").count(), 0);
    assertEquals((await tile(page, "Memory tier")).value, "coherent");
    await page.getByRole("button", { name: "Run the five steps" }).click();
    await page.getByText("Done. The bio is as it was.").waitFor();

    await page.reload();
    await becomesLive(page);
    assertEquals(requested.filter((url) => url.includes(TOKEN)), []);
    assertEquals(await page.evaluate("localStorage.length + document.cookie.length"), 0);

    await using other = await openDashboard(browser, service.url);
    await other.page.getByLabel(/This service wants its admin token/).waitFor();
  });

  it("lets nothing be pressed that would be refused, where no token would help", async () => {
    await using stage = await startStage(5, { ADMIN_OPEN: "off" });
    await using dashboard = await openDashboard(stage.browser, stage.service.url);
    const { page } = dashboard;
    await page.locator("#status[data-state=lost]").waitFor();
    assertEquals(await page.locator("main[inert]").count(), 1);
    await page.keyboard.press("Tab");
    for (let at = 0; at < 4; at++) {
      assertEquals(/^(input|button)/.test(await focused(page)), false);
      await page.keyboard.press("Tab");
    }
  });
});
