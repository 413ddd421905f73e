# syntax=docker/dockerfile:1
FROM denoland/deno:2.9.6

WORKDIR /app

# The cache of dependencies is filled here and only read later.
COPY deno.json deno.lock ./
COPY cache/ cache/
COPY changes/ changes/
COPY db/ db/
COPY routes/ routes/
COPY server/ server/
COPY web/ web/
COPY tools/command_line.ts tools/healthcheck.ts tools/
# Members of the workspace, of which nothing else is in the image.
COPY adapters/drizzle/deno.json adapters/drizzle/
COPY proof/deno.json proof/
COPY proof/races/deno.json proof/races/
COPY tests/deno.json tests/
COPY tools/deno.json tools/
COPY *.ts ./
RUN chown deno:deno "$DENO_DIR"
USER deno
RUN ["deno", "cache", "--frozen", "main.ts", "seed.ts", "tools/healthcheck.ts"]

ENV HOST=0.0.0.0 PORT=3000 REDIS_URL=redis://redis:6379
EXPOSE 3000
STOPSIGNAL SIGTERM

HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=3 \
  CMD ["deno", "run", "--no-prompt", "--no-remote", "--cached-only", "--allow-net=127.0.0.1:3000", "tools/healthcheck.ts"]

# What `deno task start` computes, for the host names of docker-compose.yml. Other hosts need a
# command of their own. The base image's entrypoint puts `deno` in front and passes signals on.
CMD ["run", "--frozen", "--cached-only", "--no-prompt", "--no-remote", \
  "--allow-net=0.0.0.0:3000,redis:6379,postgres:5432", \
  "--allow-env=HOST,PORT,WORKERS,ADMIN_TOKEN,ADMIN_TOKEN_FILE,ADMIN_OPEN,ADMIN_RATE_LIMIT,CLIENT_RATE_LIMIT,TRUST_PROXY,CORS_ORIGINS,CORS_WRITE_ORIGINS,SHUTDOWN_TIMEOUT_MS,OTEL_DENO,LOG_LEVEL,DATABASE_URL,DATABASE_URL_FILE,DATABASE_PASSWORD,DATABASE_PASSWORD_FILE,DATABASE_CA_FILE,DATABASE_POOL_MAX,REDIS_URL,REDIS_URL_FILE,REDIS_SENTINEL_PASSWORD,REDIS_SENTINEL_PASSWORD_FILE,REDIS_NODES,REDIS_CA_FILE,REDIS_COMMAND_TIMEOUT_MS,CACHE,CACHE_PREFIX,CACHE_VERSION,CACHE_TTL_MS,CACHE_LIST_TTL_MS,CACHE_GRACE_MS,CACHE_NEGATIVE_TTL_MS,CACHE_JITTER_RATIO,CACHE_MEMORY_BYTES,CACHE_MEMORY_LEASE_MS,CACHE_FALLBACK,CACHE_AUDIT_RATIO,CACHE_WARM,CHANGES_POLL_MS,CHANGES_LISTEN,CHANGES_DATABASE_URL,CHANGES_CACHE_NAME", \
  "--ignore-env", "main.ts"]
