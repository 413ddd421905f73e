/** A 4xx or 5xx response as JSON, as the page reads it. */
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
    // An error may repeat client input, which a browser must not interpret as another type.
    headers: { "cache-control": "no-store", "x-content-type-options": "nosniff", ...headers },
  });
}
