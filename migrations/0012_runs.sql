-- Runs (audit::lifecycle::run): what one policy, or somebody's request, archives and deletes.

-- A run keeps the very rules and plan that it was made with; SQL never looks into them. Its counters
-- are moved by the transactions that move its units, so that they add up at any time.
CREATE TABLE retention_runs (
  tenant          text NOT NULL,
  id              uuid NOT NULL,
  -- By a policy ..
  policy_id       uuid,
  policy_version  bigint CHECK (policy_version > 0),
  -- .. at this time by its schedule; NULL where somebody started it.
  slot            timestamptz,
  -- .. or on a request: what it asks for.
  request         jsonb,
  requester       jsonb NOT NULL,
  then_do         text NOT NULL CHECK (then_do IN ('archive', 'archive_and_delete', 'delete')),
  -- How it is archived; NULL where it only deletes.
  archive         jsonb,
  rules           jsonb,
  plan            jsonb,
  fingerprint     bytea CHECK (octet_length(fingerprint) = 32),
  -- Only rows of transactions below it belong to the run: what comes later is the next run's.
  snapshot_xmin   xid8,
  -- The time that it judges by.
  as_of           timestamptz NOT NULL,
  state           text NOT NULL DEFAULT 'planning'
                  CHECK (state IN ('planning', 'braked', 'running', 'done', 'failed', 'cancelled')),
  approvals       jsonb NOT NULL DEFAULT '[]',
  correlation_id  text NOT NULL,
  -- Targets of the policy's version that are told how it ended.
  notify          integer NOT NULL DEFAULT 0 CHECK (notify BETWEEN 0 AND 100),
  units           bigint NOT NULL DEFAULT 0,
  -- Units that have not ended; the run ends with the last one.
  units_open      bigint NOT NULL DEFAULT 0 CHECK (units_open >= 0),
  units_failed    bigint NOT NULL DEFAULT 0,
  planned_events  bigint NOT NULL DEFAULT 0, planned_bytes  bigint NOT NULL DEFAULT 0,
  archived_events bigint NOT NULL DEFAULT 0, archived_bytes bigint NOT NULL DEFAULT 0,
  verified_events bigint NOT NULL DEFAULT 0, verified_bytes bigint NOT NULL DEFAULT 0,
  deleted_events  bigint NOT NULL DEFAULT 0, deleted_bytes  bigint NOT NULL DEFAULT 0,
  held_events     bigint NOT NULL DEFAULT 0, held_bytes     bigint NOT NULL DEFAULT 0,
  gone_events     bigint NOT NULL DEFAULT 0, gone_bytes     bigint NOT NULL DEFAULT 0,
  failed_events   bigint NOT NULL DEFAULT 0, failed_bytes   bigint NOT NULL DEFAULT 0,
  failure         text CHECK (char_length(failure) <= 2000),
  created_at      timestamptz NOT NULL DEFAULT now(),
  started_at      timestamptz,
  ended_at        timestamptz,
  PRIMARY KEY (tenant, id),
  UNIQUE (tenant, policy_id, slot),
  CONSTRAINT one_basis CHECK ((policy_id IS NULL) = (policy_version IS NULL)
                              AND NOT (policy_id IS NOT NULL AND request IS NOT NULL)),
  CONSTRAINT slots_are_policies CHECK (slot IS NULL OR policy_id IS NOT NULL)
);
CREATE INDEX retention_runs_history ON retention_runs (tenant, policy_id, created_at DESC);
-- What is not over, of all tenants.
CREATE INDEX retention_runs_open ON retention_runs (created_at)
  WHERE state IN ('planning', 'braked', 'running');
SELECT flotilla_wall('retention_runs', 'tenant');
-- The API starts runs, approves and cancels them, and shows how they do.
GRANT SELECT, INSERT, UPDATE ON retention_runs TO flotilla_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON retention_runs TO flotilla_worker;
