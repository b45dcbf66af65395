-- Tenants, keys, logs and the engine's own tables, with two roles and row-level security.
--
-- Who may what: the migrating user owns everything. `flotilla_api` serves requests and sees one
-- tenant at a time, the one in the setting `flotilla.tenant` (set locally, per transaction).
-- `flotilla_worker` runs the workers and the scheduler and sees all tenants by an explicit policy.
-- Row-level security is the second wall; the first is the tenant in every query.

-- Roles belong to the whole cluster, so another database may have made them, even a moment ago.
DO $$
BEGIN
  CREATE ROLE flotilla_api NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$;

DO $$
BEGIN
  CREATE ROLE flotilla_worker NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$;

-- The owner is a member of both: so it can SET ROLE, and FORCEd policies let it through. Asked is
-- USAGE: from PostgreSQL 16 on, who creates a role is a MEMBER that may neither inherit nor set it.
DO $$
BEGIN
  IF NOT pg_has_role(current_user, 'flotilla_api', 'USAGE') THEN
    GRANT flotilla_api TO CURRENT_USER;
  END IF;
  IF NOT pg_has_role(current_user, 'flotilla_worker', 'USAGE') THEN
    GRANT flotilla_worker TO CURRENT_USER;
  END IF;
END $$;

GRANT USAGE ON SCHEMA public TO flotilla_api, flotilla_worker;

-- Readiness compares the schema with what the binary was built for.
DO $$
BEGIN
  IF to_regclass('public._sqlx_migrations') IS NOT NULL THEN
    GRANT SELECT ON public._sqlx_migrations TO flotilla_api, flotilla_worker;
  END IF;
END $$;

-- The session's tenant, or NULL: an unset setting reads as NULL, one that was set in an earlier
-- transaction as ''. Neither equals a tenant, so no tenant means no rows.
CREATE FUNCTION flotilla_tenant() RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(current_setting('flotilla.tenant', true), '');

-- Both walls for a table with a tenant column: the API by the session's tenant, the workers by an
-- explicit policy, and the owner bound too (FORCE), as a member of flotilla_worker.
CREATE FUNCTION flotilla_wall(target regclass, tenant_column text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target);
  EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', target);
  EXECUTE format(
    'CREATE POLICY own_tenant ON %s TO flotilla_api
       USING (%2$I = (SELECT flotilla_tenant())) WITH CHECK (%2$I = (SELECT flotilla_tenant()))',
    target, tenant_column);
  EXECUTE format(
    'CREATE POLICY all_tenants ON %s TO flotilla_worker USING (true) WITH CHECK (true)', target);
END $$;
REVOKE EXECUTE ON FUNCTION flotilla_wall(regclass, text) FROM PUBLIC;

CREATE TABLE tenants (
  id            text PRIMARY KEY CHECK (id ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
  default_class text NOT NULL DEFAULT '90d'
                CHECK (default_class IN ('7d', '30d', '90d', '1y', '7y', 'custom')),
  sandbox       boolean NOT NULL DEFAULT false,
  state         text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'suspended')),
  created_at    timestamptz NOT NULL DEFAULT now()
);
SELECT flotilla_wall('tenants', 'id');
GRANT SELECT ON tenants TO flotilla_api, flotilla_worker;
-- The fleet's own audit trail.
INSERT INTO tenants (id, default_class) VALUES ('system', '1y');

CREATE TABLE api_keys (
  key_id        text PRIMARY KEY CHECK (key_id ~ '^[A-Za-z0-9]{8,40}$'),
  tenant        text NOT NULL REFERENCES tenants (id),
  env           text NOT NULL CHECK (env ~ '^[a-z0-9]{1,16}$'),
  secret_sha256 bytea NOT NULL CHECK (octet_length(secret_sha256) = 32),
  scopes        text[] NOT NULL CHECK (cardinality(scopes) BETWEEN 1 AND 32),
  name          text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 200),
  created_at    timestamptz NOT NULL DEFAULT now(),
  expires_at    timestamptz,
  revoked_at    timestamptz,
  last_used_at  timestamptz
);
CREATE INDEX api_keys_tenant ON api_keys (tenant, created_at);
SELECT flotilla_wall('api_keys', 'tenant');
-- No grant on the table: a request is not of any tenant before its key is found, so the API finds
-- keys one at a time, by their whole id, through these two functions.
CREATE FUNCTION flotilla_find_api_key(wanted text)
RETURNS TABLE (key_id text, tenant text, env text, secret_sha256 bytea, scopes text[], name text,
               created_at timestamptz, expires_at timestamptz, revoked_at timestamptz,
               last_used_at timestamptz, default_class text, sandbox boolean, state text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
BEGIN ATOMIC
  SELECT k.key_id, k.tenant, k.env, k.secret_sha256, k.scopes, k.name, k.created_at, k.expires_at,
         k.revoked_at, k.last_used_at, t.default_class, t.sandbox, t.state
    FROM api_keys k JOIN tenants t ON t.id = k.tenant
   WHERE k.key_id = wanted;
END;
CREATE FUNCTION flotilla_touch_api_keys(used text[], at timestamptz) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
BEGIN ATOMIC
  UPDATE api_keys SET last_used_at = at
   WHERE key_id = ANY (used) AND (last_used_at IS NULL OR last_used_at < at);
END;
REVOKE EXECUTE ON FUNCTION flotilla_find_api_key(text), flotilla_touch_api_keys(text[], timestamptz)
  FROM PUBLIC;
GRANT EXECUTE ON FUNCTION flotilla_find_api_key(text), flotilla_touch_api_keys(text[], timestamptz)
  TO flotilla_api;

-- One row per accepted log. `record` is the canonical JSON, the very bytes that were built at the
-- API, hashed and archived; the columns beside it exist for queries and repeat what it says.
CREATE TABLE logs (
  tenant          text NOT NULL,
  id              uuid NOT NULL,
  retention_class text NOT NULL,
  recorded_at     timestamptz NOT NULL,
  record          bytea NOT NULL,
  sha256          bytea NOT NULL CHECK (octet_length(sha256) = 32),
  leaf_salt       bytea NOT NULL,
  ingest_xid      xid8 NOT NULL DEFAULT pg_current_xact_id(),
  revision        bigint NOT NULL DEFAULT 0,
  occurred_at     timestamptz,
  actor_type      text NOT NULL,
  actor_id        text NOT NULL,
  actor_name      text,
  action          text NOT NULL,
  outcome         text NOT NULL,
  target_types    text[] NOT NULL DEFAULT '{}',
  target_ids      text[] NOT NULL DEFAULT '{}',
  PRIMARY KEY (tenant, retention_class, recorded_at, id)
) PARTITION BY LIST (retention_class);
-- What the live tail reads after: commit order, which recorded_at is not.
CREATE INDEX logs_feed ON logs (tenant, ingest_xid, id);
-- Newest first, and a read by id through the millisecond its UUIDv7 carries.
CREATE INDEX logs_newest ON logs (tenant, recorded_at DESC, id DESC);
SELECT flotilla_wall('logs', 'tenant');
GRANT SELECT ON logs TO flotilla_api;
GRANT SELECT, INSERT, DELETE, UPDATE (revision) ON logs TO flotilla_worker;

-- Ranges hang below these. None has a DEFAULT partition: a row out of range is an error that is
-- seen (SQLSTATE 23514 without a constraint), not one that lands where retention never looks.
CREATE TABLE logs_7d     PARTITION OF logs FOR VALUES IN ('7d')     PARTITION BY RANGE (recorded_at);
CREATE TABLE logs_30d    PARTITION OF logs FOR VALUES IN ('30d')    PARTITION BY RANGE (recorded_at);
CREATE TABLE logs_90d    PARTITION OF logs FOR VALUES IN ('90d')    PARTITION BY RANGE (recorded_at);
CREATE TABLE logs_1y     PARTITION OF logs FOR VALUES IN ('1y')     PARTITION BY RANGE (recorded_at);
CREATE TABLE logs_7y     PARTITION OF logs FOR VALUES IN ('7y')     PARTITION BY RANGE (recorded_at);
CREATE TABLE logs_custom PARTITION OF logs FOR VALUES IN ('custom') PARTITION BY RANGE (recorded_at);
-- Closed, if anyone is ever granted one: policies of `logs` hold for what goes through `logs` only.
ALTER TABLE logs_7d     ENABLE ROW LEVEL SECURITY;
ALTER TABLE logs_30d    ENABLE ROW LEVEL SECURITY;
ALTER TABLE logs_90d    ENABLE ROW LEVEL SECURITY;
ALTER TABLE logs_1y     ENABLE ROW LEVEL SECURITY;
ALTER TABLE logs_7y     ENABLE ROW LEVEL SECURITY;
ALTER TABLE logs_custom ENABLE ROW LEVEL SECURITY;

-- What PATCH appends. A log is never edited.
CREATE TABLE log_revisions (
  tenant      text NOT NULL,
  log_id      uuid NOT NULL,
  revision    bigint NOT NULL CHECK (revision > 0),
  envelope_id uuid NOT NULL UNIQUE,
  tags        text[] NOT NULL DEFAULT '{}',
  annotation  text,
  actor       jsonb NOT NULL,
  recorded_at timestamptz NOT NULL,
  PRIMARY KEY (tenant, log_id, revision)
);
SELECT flotilla_wall('log_revisions', 'tenant');
GRANT SELECT ON log_revisions TO flotilla_api;
GRANT SELECT, INSERT, DELETE ON log_revisions TO flotilla_worker;

-- What was erased, kept longer than a message can be redelivered, so that none brings a log back.
CREATE TABLE tombstones (
  tenant       text NOT NULL,
  id           uuid NOT NULL,
  reason       text NOT NULL,
  requester    jsonb NOT NULL,
  operation_id uuid NOT NULL,
  recorded_at  timestamptz NOT NULL,
  expires_at   timestamptz NOT NULL,
  PRIMARY KEY (tenant, id)
);
CREATE INDEX tombstones_expiry ON tombstones (expires_at);
SELECT flotilla_wall('tombstones', 'tenant');
GRANT SELECT ON tombstones TO flotilla_api;
GRANT SELECT, INSERT, DELETE ON tombstones TO flotilla_worker;

-- Idempotency keys, reserved before publishing; the key is stored as a hash only.
CREATE TABLE ingest_keys (
  tenant          text NOT NULL,
  key_hash        bytea NOT NULL CHECK (octet_length(key_hash) = 32),
  body_sha256     bytea NOT NULL CHECK (octet_length(body_sha256) = 32),
  ids             uuid[] NOT NULL,
  recorded_at     timestamptz NOT NULL,
  retention_class text NOT NULL,
  salts           bytea[] NOT NULL,
  state           text NOT NULL CHECK (state IN ('reserved', 'published')),
  created_at      timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, key_hash)
);
CREATE INDEX ingest_keys_age ON ingest_keys (created_at);
SELECT flotilla_wall('ingest_keys', 'tenant');
GRANT SELECT, INSERT, UPDATE ON ingest_keys TO flotilla_api;
GRANT SELECT, DELETE ON ingest_keys TO flotilla_worker;

-- Failures of messages, recorded when they happen (queue_core::AttemptStore).
CREATE TABLE attempts (
  queue      text NOT NULL,
  message    text NOT NULL,
  failures   integer NOT NULL CHECK (failures >= 0),
  attempts   jsonb NOT NULL,
  updated_at timestamptz NOT NULL,
  PRIMARY KEY (queue, message)
);
CREATE INDEX attempts_age ON attempts (updated_at);
GRANT SELECT, INSERT, UPDATE, DELETE ON attempts TO flotilla_worker;

-- Who does what only one may do. A row is never deleted: its epoch fences an earlier holder.
CREATE TABLE leases (
  name       text PRIMARY KEY,
  holder     text NOT NULL,
  epoch      bigint NOT NULL,
  expires_at timestamptz NOT NULL
);
GRANT SELECT, INSERT, UPDATE ON leases TO flotilla_worker;

-- Bumped after a restore: transaction ids start again, so feed cursors of before mean nothing.
CREATE TABLE feed_epoch (
  one_row boolean PRIMARY KEY DEFAULT true CHECK (one_row),
  epoch   bigint NOT NULL
);
INSERT INTO feed_epoch (epoch) VALUES (1);
GRANT SELECT ON feed_epoch TO flotilla_api, flotilla_worker;
