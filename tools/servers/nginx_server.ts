import { join } from "node:path";
import { eventually } from "./eventually.ts";
import { freePort } from "./free_port.ts";
import { ServerProcess, started } from "./server_process.ts";

/** A temporary nginx on loopback, at 127.0.0.1 and ::1, in front of a service. */
export class NginxServer extends ServerProcess {
  /** The port it listens on. */
  readonly port: number;

  /** Use {@linkcode startNginx}. */
  constructor(directory: string, port: number) {
    super({
      command: "nginx",
      args: ["-p", directory, "-c", join(directory, "nginx.conf"), "-e", "stderr"],
      ready: (_, signal) =>
        eventually(async () => {
          (await Deno.connect({ hostname: "127.0.0.1", port })).close();
        }, { signal }),
      ownDirectory: directory,
    });
    this.port = port;
  }
}

/**
 * Starts an nginx that forwards everything to a port of 127.0.0.1 with default settings: it adds no header, and
 * sends the address as `Host`.
 *
 * @param more Lines of the `location`, and whether connections to the service are kept alive.
 */
export async function startNginx(
  to: number,
  more: { readonly location?: string; readonly keepsConnections?: boolean } = {},
): Promise<NginxServer> {
  const directory = await Deno.makeTempDir({ prefix: "lookaside_nginx_" });
  const port = freePort();
  const paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    .map((name) => `${name}_temp_path ${directory};`);
  const address = `127.0.0.1:${to}`;
  // After a refused connection it tries again.
  const upstream = `upstream service { server ${address} max_fails=0; keepalive 16; }`;
  const pass = more.keepsConnections
    ? 'proxy_pass http://service; proxy_http_version 1.1; proxy_set_header Connection "";'
    : `proxy_pass http://${address};`;
  await Deno.writeTextFile(
    join(directory, "nginx.conf"),
    `daemon off;
master_process off; # which would leave the others behind when it is killed
pid ${directory}/nginx.pid;
events {}
http {
  access_log off;
  ${paths.join(" ")}
  ${more.keepsConnections ? upstream : ""}
  server {
    listen 127.0.0.1:${port};
    listen [::1]:${port};
    location / { ${pass} ${more.location ?? ""} }
  }
}
`,
  );
  return await started(new NginxServer(directory, port));
}
