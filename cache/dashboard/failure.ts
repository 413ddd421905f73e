/** An answer of 4xx or 5xx as JSON, as the page reads it. */
export function failure(
  status: number,
  body: {
    readonly error: string;
    readonly issues?: readonly { readonly path: string; readonly message: string }[];
  },
  headers: Readonly<Record<string, string>> = {},
): Response {
  return Response.json(body, {
    status,
    // An error may repeat what a client wrote: no browser is to take that for something else.
    headers: { "cache-control": "no-store", "x-content-type-options": "nosniff", ...headers },
  });
}
