import { join } from "node:path";
import { serverUser } from "./postgres_server.ts";

/** Files in PEM, for TLS servers on 127.0.0.1. Disposal removes their directory. */
export interface Certificates extends AsyncDisposable {
  /** The certificate of a server, and its key. */
  readonly server: { readonly certFile: string; readonly keyFile: string };
  /** The certificate of the authority that signed it. */
  readonly caFile: string;
  /** The certificate of another authority. */
  readonly strangerFile: string;
}

/** Makes certificates that are valid for a day. */
export async function makeCertificates(): Promise<Certificates> {
  const directory = await Deno.makeTempDir({ prefix: "lookaside_tls_" });
  await Deno.chmod(directory, 0o711);
  const path = (name: string) => join(directory, name);
  for (const name of ["ca", "stranger"]) {
    const extensions = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign"];
    await request(path(name), { name, extensions });
  }
  await request(path("server"), {
    name: "server",
    extensions: ["basicConstraints=critical,CA:FALSE", "subjectAltName=IP:127.0.0.1"],
    signer: path("ca"),
  });
  // Postgres rejects a key that others may read.
  const { user } = serverUser();
  if (user) await Deno.chown(path("server.key"), user.uid, user.gid);
  return {
    server: { certFile: path("server.pem"), keyFile: path("server.key") },
    caFile: path("ca.pem"),
    strangerFile: path("stranger.pem"),
    [Symbol.asyncDispose]: () => Deno.remove(directory, { recursive: true }),
  };
}

/** Writes `{path}.pem` and `{path}.key`, signed by `signer` or by itself. */
async function request(
  path: string,
  { name, extensions, signer }: {
    readonly name: string;
    readonly extensions: readonly string[];
    readonly signer?: string;
  },
): Promise<void> {
  const { success, stderr } = await new Deno.Command("openssl", {
    args: [
      ...["req", "-x509", "-days", "1", "-nodes", "-subj", `/CN=${name}`],
      ...["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"],
      ...extensions.flatMap((extension) => ["-addext", extension]),
      ...["-keyout", `${path}.key`, "-out", `${path}.pem`],
      ...signer === undefined ? [] : ["-CA", `${signer}.pem`, "-CAkey", `${signer}.key`],
    ],
    stdin: "null",
    stdout: "null",
  }).output();
  if (!success) throw new Error(`Cannot make a certificate: ${new TextDecoder().decode(stderr)}`);
}
