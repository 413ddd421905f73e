/**
 * Certificates of those whom the service trusts to vouch for its servers.
 *
 * @module
 */

/**
 * Reads `path`, where there is one, as an option of what connects.
 *
 * @throws {Error} It cannot be read, or holds no certificate in PEM.
 */
export async function readCa(path: string | undefined): Promise<{ readonly ca?: string }> {
  if (path === undefined) return {};
  let ca: string;
  try {
    ca = await Deno.readTextFile(path);
  } catch (cause) {
    const missing = cause instanceof Deno.errors.NotFound;
    throw new Error(`Cannot read ${path}: ${missing ? "there is no such file" : cause}`, { cause });
  }
  // Without one, whoever connects would trust the usual authorities, and say so to nobody.
  if (ca.includes("-----BEGIN CERTIFICATE-----")) return { ca };
  throw new Error(`Cannot use ${path}: it holds no certificate in PEM`);
}
