/**
 * Certificates that the service trusts for its servers.
 *
 * @module
 */

/**
 * Reads `path`, if given, as an option for connecting.
 *
 * @throws {Error} It cannot be read, or contains no PEM certificate.
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
  // Without a certificate, the system's authorities would silently be trusted instead.
  if (ca.includes("-----BEGIN CERTIFICATE-----")) return { ca };
  throw new Error(`Cannot use ${path}: it holds no certificate in PEM`);
}
