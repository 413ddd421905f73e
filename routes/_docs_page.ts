/**
 * The description of the API as a page: plain HTML made from the document, without scripts or external files.
 * The common viewers are megabytes of script and need `unsafe-inline`.
 *
 * @module
 */
import { html, raw } from "hono/html";
import { createHash } from "node:crypto";
import { DOCS_STYLE } from "../web/assets.ts";
import type { ApiDocument, Content, Operation, Schema } from "./_openapi.ts";

/** The page's `Content-Security-Policy`: it needs its style, and nothing else. */
export const POLICY: string = [
  "default-src 'none'",
  `style-src 'sha256-${createHash("sha256").update(DOCS_STYLE).digest("base64")}'`,
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

type Html = ReturnType<typeof html>;

/** Texts of formats, in examples. */
const FORMATS: Readonly<Record<string, string>> = {
  "date": "2026-01-31",
  "date-time": "2026-01-31T12:00:00Z",
  "email": "ada@example.com",
  "time": "12:00:00",
  "uri": "https://example.com",
  "uuid": "0b9e4c5e-5f3a-4c1e-9b1a-111111111111",
};

/** Makes the page. Its examples name `origin`. */
export function docsPage(document: ApiDocument, origin: string): Html {
  const { info, tags, components } = document;
  const operations = operationsOf(document);
  return html`
    <!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width">
        <title>${info.title} API</title>
        <style>${raw(DOCS_STYLE)}</style>
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
        operations.filter(({ operation }) => operation.tags.includes(name)).map((located) =>
          operationArticle(located, components.schemas, origin)
        )
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

type Schemas = ApiDocument["components"]["schemas"];

function operationArticle(located: Located, schemas: Schemas, origin: string): Html {
  const { method, path, operation } = located;
  const { operationId, summary, description, requestBody, responses, security } = operation;
  const parameters = operation.parameters ?? [];
  return html`<article id="${operationId}">
<h3><span class="method">${method}</span><code>${path}</code></h3>
<p>${summary}.${description === undefined ? "" : prose(` ${description}`)}${
    security === undefined ? "" : " Wants the admin token."
  }</p>
<pre>${example(located, schemas, origin)}</pre>
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
        Object.keys(answer.headers ?? {}).join(", "),
      ]),
    )
  }
</article>`;
}

/** A table scrolls on a narrow screen. By keyboard that needs a name and the focus. */
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
function example(
  { method, path, operation }: Located,
  schemas: Schemas,
  origin: string,
): string {
  const option = method === "GET" ? "" : ` -X ${method}`;
  const token = operation.security === undefined ? "" : ` -H "Authorization: Bearer $ADMIN_TOKEN"`;
  const schema = operation.requestBody?.content["application/json"]?.schema;
  const body = schema === undefined
    ? ""
    : ` -H "Content-Type: application/json" -d '${JSON.stringify(exampleOf(schema, schemas))}'`;
  const parameters = new Map(
    operation.parameters?.map(({ name, schema }) => [name, exampleOf(schema, schemas)]),
  );
  const filled = path.replace(/\{(\w+)\}/g, (_, name) => String(parameters.get(name)));
  return `curl${option}${token}${body} ${origin}${filled}`;
}

function exampleOf(schema: Schema, schemas: Schemas): unknown {
  const { $ref, example, type, properties } = schema;
  if (typeof $ref === "string") {
    return exampleOf(schemas[$ref.slice($ref.lastIndexOf("/") + 1)] ?? {}, schemas);
  }
  if (properties !== undefined) {
    const all = Object.entries(properties ?? {});
    const { required } = schema;
    const shown = Array.isArray(required) ? all.filter(([name]) => required.includes(name)) : all;
    return Object.fromEntries(shown.map(([name, value]) => [name, exampleOf(value, schemas)]));
  }
  if (example !== undefined) return example;
  const [either] = [schema.enum, schema.anyOf, schema.oneOf].filter(Array.isArray);
  if (either !== undefined) {
    return schema.enum === either ? either[0] : exampleOf(either[0], schemas);
  }
  return exampleOfType([type].flat()[0], schema, schemas);
}

function exampleOfType(type: unknown, schema: Schema, schemas: Schemas): unknown {
  switch (type) {
    case "integer":
    case "number":
      return Math.max(1, Number(schema.minimum ?? 1));
    case "boolean":
      return true;
    case "array":
      return schema.minItems === undefined ? [] : [exampleOf(Object(schema.items), schemas)];
    default:
      return FORMATS[String(schema.format)] ?? "text";
  }
}

/** Text with its `code` set as code. */
function prose(text: string): Html {
  const parts = text.split("`").map((part, at) => at % 2 === 1 ? code(part) : part);
  return html`${parts}`;
}

function code(text: string): Html {
  return html`<code>${text}</code>`;
}

function schemaLink(content: Content): Html {
  return html`${
    Object.entries(content).map(([type, { schema }]) => {
      const links = [...JSON.stringify(schema ?? {}).matchAll(/schemas\/(\w+)/g)];
      if (links.length === 0) return code(type);
      return links.map(([, name]) =>
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
