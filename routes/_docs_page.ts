/**
 * The description of the API as a page: plain HTML made of the same document, without a script and
 * without anything from elsewhere. The common viewers are megabytes of script that need `unsafe-inline`.
 *
 * @module
 */
import { html, raw } from "hono/html";
import { createHash } from "node:crypto";
import type { ApiDocument, Operation, Schema } from "./_api_document.ts";

/** A page and the policy that allows it what it needs. */
export interface Page {
  /** The HTML. */
  readonly html: string;
  /** For `Content-Security-Policy`. */
  readonly policy: string;
}

type Html = ReturnType<typeof html>;

const STYLE = `
:root { color-scheme: light dark; --line: light-dark(#d8dbe0, #3a3f47); --soft: light-dark(#f4f5f7, #1f2329);
  --link: light-dark(#0b57d0, #8ab4f8); --ink: light-dark(#1b1f24, #e6e8eb); --paper: light-dark(#fff, #15181c) }
body { margin: 0 auto; max-width: 56rem; padding: 1rem; font: 1rem/1.5 system-ui, sans-serif;
  color: var(--ink); background: var(--paper) }
a { color: var(--link) }
code, pre { font-family: ui-monospace, monospace; font-size: .875em; overflow-wrap: anywhere }
pre { overflow-x: auto; padding: .75rem; background: var(--soft); border-radius: .375rem; white-space: pre-wrap }
nav ul { list-style: none; padding: 0 }
nav li { display: grid; grid-template-columns: 4.5em minmax(0, 16em) minmax(0, 1fr); gap: 0 .5rem; align-items: baseline; margin: .375rem 0 }
@media (max-width: 40rem) { nav li { grid-template-columns: 4.5em minmax(0, 1fr) } nav li :last-child { grid-column: 2 } }
nav .method { font-size: .875em }
article { border: 1px solid var(--line); border-radius: .5rem; padding: 0 1rem 1rem; margin: 1rem 0 }
h3 code { font-size: 1em }
.method { display: inline-block; min-width: 4.5em; font-weight: 700; font-family: ui-monospace, monospace }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px }
.scroll { overflow-x: auto }
.scroll + .scroll { margin-top: 1.25rem }
table { border-collapse: collapse; width: 100%; min-width: 38rem }
table code { white-space: nowrap }
th, td { text-align: left; vertical-align: top; padding: .375rem .75rem .375rem 0; border-top: 1px solid var(--line) }
`;

/** Makes the page. */
export async function docsPage(document: ApiDocument): Promise<Page> {
  const { info, tags, components } = document;
  const operations = operationsOf(document);
  const page = await html`
    <!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width">
        <title>${info.title} API</title>
        <style>${raw(STYLE)}</style>
      </head>
      <body>
        <header>
    <h1>${info.title} API</h1>
    ${info.description.split("\n\n").map((text) => html`<p>${prose(text)}</p>`)}
    <p>For programs: <a href="/openapi.json">/openapi.json</a>. What the cache does now: <a href="/">the dashboard</a>.</p>
        </header>
        <nav aria-label="Operations">
          <ul>
    ${operations.map(({ method, path, operation }) =>
      html`<li><span class="method">${method}</span><a href="#${operation.operationId}"><code>${path}</code></a><span>${operation.summary}</span></li>`
    )}
          </ul>
        </nav>
        <main>
    ${tags.map(({ name, description }) =>
      html`<section><h2>${name}</h2><p>${description}.</p>
${
        operations.filter(({ operation }) => operation.tags.includes(name)).map(operationArticle)
      }</section>`
    )}
    <section><h2>Schemas</h2>
    ${Object.entries(components.schemas).map(([name, schema]) =>
      html`
        <article id="${name}">
          <h3>${name}</h3>
          <pre>${JSON.stringify(schema, null, 2)}</pre>
        </article>
      `
    )}
    </section>
        </main>
      </body>
    </html>
  `;
  return { html: `${page}`, policy: policyFor(STYLE) };
}

function policyFor(style: string): string {
  const hash = createHash("sha256").update(style).digest("base64");
  return [
    "default-src 'none'",
    `style-src 'sha256-${hash}'`,
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join("; ");
}

interface Located {
  readonly method: string;
  readonly path: string;
  readonly operation: Operation;
}

function operationsOf({ paths }: ApiDocument): Located[] {
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({
      method: method.toUpperCase(),
      path,
      operation,
    }))
  );
}

function operationArticle({ method, path, operation }: Located): Html {
  const { operationId, summary, description, parameters, requestBody, responses, security } =
    operation;
  return html`<article id="${operationId}">
<h3><span class="method">${method}</span><code>${path}</code></h3>
<p>${summary}.${description === undefined ? "" : prose(` ${description}`)}${
    security === undefined ? "" : " Wants the admin token."
  }</p>
<pre>${example({ method, path, operation })}</pre>
${
    parameters.length === 0 ? "" : table(
      `Parameters of ${operationId}`,
      ["Parameter", "In", "Values", "Meaning"],
      parameters.map((parameter) => [
        code(parameter.name),
        parameter.in,
        code(shortly(parameter.schema)),
        prose(parameter.description ?? ""),
      ]),
    )
  }
${requestBody === undefined ? "" : html`<p>Body: ${schemaLink(requestBody.content)}</p>`}
${
    table(
      `Answers of ${operationId}`,
      ["Status", "When", "Body", "Headers"],
      Object.entries(responses).map(([status, answer]) => [
        code(status),
        prose(answer.description),
        schemaLink(answer.content ?? {}),
        Object.keys(answer.headers).join(", "),
      ]),
    )
  }
</article>`;
}

/** On a narrow screen it is scrolled, which a keyboard can do only to what has a name and the focus. */
function table(
  name: string,
  heads: readonly string[],
  rows: readonly (readonly (Html | string)[])[],
): Html {
  return html`
    <div class="scroll" role="region" aria-label="${name}" tabindex="0">
      <table>
        <thead>
          <tr>${heads.map((head) => html`<th scope="col">${head}</th>`)}</tr>
        </thead>
        <tbody>${rows.map((row) =>
          html`<tr>${row.map((cell) => html`<td>${cell}</td>`)}</tr>`
        )}</tbody>
      </table>
    </div>
  `;
}

/** A request to paste into a terminal. */
function example({ method, path, operation }: Located): string {
  const option = method === "GET" ? "" : ` -X ${method}`;
  const token = operation.security === undefined ? "" : ` -H "Authorization: Bearer $ADMIN_TOKEN"`;
  const body = operation.requestBody === undefined
    ? ""
    : ` -H "Content-Type: application/json" -d '{"name":"Ada Lovelace","email":"ada@example.com"}'`;
  return `curl${option}${token}${body} http://127.0.0.1:3000${
    path.replace("{id}", "1").replace("{key}", "user:1").replace("{file}", "main.js")
  }`;
}

/** Text with its `code` set as code. */
function prose(text: string): Html {
  const parts = text.split("`").map((part, at) => at % 2 === 1 ? code(part) : part);
  return html`${parts}`;
}

function code(text: string): Html {
  return html`<code>${text}</code>`;
}

function schemaLink(content: Readonly<Record<string, { readonly schema: Schema }>>): Html {
  return html`${
    Object.entries(content).map(([type, { schema }]) => {
      const names = [...JSON.stringify(schema).matchAll(/schemas\/(\w+)/g)].flatMap(([, name]) =>
        name ?? []
      );
      if (names.length === 0) return code(type);
      return names.map((name) =>
        html`
          <a href="#${name}">${name}</a>
        `
      );
    })
  }`;
}

function shortly({ type, minimum, maximum, items }: Schema): string {
  const range = minimum === undefined ? "" : ` ${minimum} to ${maximum}`;
  return items === undefined ? `${type}${range}` : "1,2,3";
}
