-- Units of work of a run (audit::lifecycle::unit), the objects of the archive, and which stored logs
-- the archive holds as well.

-- One unit is one object at most, of one class and hour. Every change of a unit moves the counters of
-- its run in the same transaction. Locked in this order: chain, unit, run.
CREATE TABLE archive_units (
  tenant            text NOT NULL,
  id                uuid NOT NULL,
  run_id            uuid NOT NULL,
  number            integer NOT NULL CHECK (number > 0),
  -- 'archive': rows to an object. 'delete': rows without one. 'again': an object of an earlier unit
  -- whose logs are due only now.
  work              text NOT NULL CHECK (work IN ('archive', 'delete', 'again')),
  retention_class   text NOT NULL,
  hour              timestamptz NOT NULL,
  -- The rows between these keys, both included; the run's rules say which of them.
  first_at          timestamptz NOT NULL,
  first_id          uuid NOT NULL,
  last_at           timestamptz NOT NULL,
  last_id           uuid NOT NULL,
  state             text NOT NULL DEFAULT 'planned'
                    CHECK (state IN ('planned', 'written', 'sealed', 'deleting',
                                     'deleted', 'kept', 'empty', 'failed')),
  -- Who works on it, until when unless renewed.
  claimed_by        uuid,
  claimed_until     timestamptz,
  part              integer CHECK (part > 0),
  codec             text,
  object            text,
  -- An upload that is not complete.
  upload            jsonb,
  -- evidence::object::Contents, from written to sealed.
  contents          jsonb,
  manifest_sequence bigint,
  manifest_sha256   bytea CHECK (octet_length(manifest_sha256) = 32),
  receipt_sequence  bigint,
  planned_events    bigint NOT NULL CHECK (planned_events >= 0),
  planned_bytes     bigint NOT NULL CHECK (planned_bytes >= 0),
  archived_events   bigint NOT NULL DEFAULT 0, archived_bytes bigint NOT NULL DEFAULT 0,
  verified_events   bigint NOT NULL DEFAULT 0, verified_bytes bigint NOT NULL DEFAULT 0,
  deleted_events    bigint NOT NULL DEFAULT 0, deleted_bytes  bigint NOT NULL DEFAULT 0,
  held_events       bigint NOT NULL DEFAULT 0, held_bytes     bigint NOT NULL DEFAULT 0,
  gone_events       bigint NOT NULL DEFAULT 0, gone_bytes     bigint NOT NULL DEFAULT 0,
  failed_events     bigint NOT NULL DEFAULT 0, failed_bytes   bigint NOT NULL DEFAULT 0,
  error             text CHECK (char_length(error) <= 2000),
  updated_at        timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, id),
  UNIQUE (tenant, run_id, number)
);
-- What a plan leaves out, because a unit is at it.
CREATE INDEX archive_units_open ON archive_units (tenant, retention_class, first_at)
  WHERE state IN ('planned', 'written', 'sealed', 'deleting');
SELECT flotilla_wall('archive_units', 'tenant');
GRANT SELECT ON archive_units TO flotilla_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON archive_units TO flotilla_worker;

-- The last part number that was given out for an hour.
CREATE TABLE archive_hours (
  tenant text NOT NULL,
  hour   timestamptz NOT NULL,
  parts  integer NOT NULL CHECK (parts > 0),
  PRIMARY KEY (tenant, hour)
);
SELECT flotilla_wall('archive_hours', 'tenant');
GRANT SELECT, INSERT, UPDATE, DELETE ON archive_hours TO flotilla_worker;

-- Names that units have given up: what may lie there is in no chain and is to be removed, and nothing
-- is ever written there again.
CREATE TABLE archive_discards (
  tenant  text NOT NULL,
  object  text NOT NULL,
  unit_id uuid NOT NULL,
  since   timestamptz NOT NULL DEFAULT now(),
  look_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, object)
);
CREATE INDEX archive_discards_due ON archive_discards (look_at);
SELECT flotilla_wall('archive_discards', 'tenant');
GRANT SELECT, INSERT, UPDATE, DELETE ON archive_discards TO flotilla_worker;

-- Logs that were erased and are to go from an object of the archive, too: by another object in its place.
CREATE TABLE archive_erasures (
  tenant  text NOT NULL,
  object  text NOT NULL,
  log_id  uuid NOT NULL,
  since   timestamptz NOT NULL DEFAULT now(),
  -- The next look, and what was in the way at the last one.
  look_at timestamptz NOT NULL DEFAULT now(),
  why     text CHECK (char_length(why) <= 2000),
  PRIMARY KEY (tenant, object, log_id)
);
CREATE INDEX archive_erasures_due ON archive_erasures (look_at);
SELECT flotilla_wall('archive_erasures', 'tenant');
GRANT SELECT ON archive_erasures TO flotilla_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON archive_erasures TO flotilla_worker;

-- An object that is in the chain: what a search of the archive, an erasure and the archive's own
-- term go by. The manifests are the truth, this is their index.
CREATE TABLE archive_objects (
  tenant            text NOT NULL,
  object            text NOT NULL,
  unit_id           uuid NOT NULL,
  manifest_sequence bigint NOT NULL,
  manifest_sha256   bytea NOT NULL CHECK (octet_length(manifest_sha256) = 32),
  retention_class   text NOT NULL,
  hour              timestamptz NOT NULL,
  first_id          uuid NOT NULL,
  last_id           uuid NOT NULL,
  first_at          timestamptz NOT NULL,
  last_at           timestamptz NOT NULL,
  events            bigint NOT NULL CHECK (events > 0),
  packed_bytes      bigint NOT NULL,
  contents          jsonb NOT NULL,
  archived_at       timestamptz NOT NULL,
  -- Its own term is over then; NULL: kept for ever.
  expires_at        timestamptz,
  -- The store refuses to delete it until then.
  locked_until      timestamptz,
  -- The manifest of the object that took its place.
  superseded_by     bigint,
  -- The store has it no more.
  removed_at        timestamptz,
  -- When its removal was asked for last: its term is over, or another has its place.
  expiry_told_at    timestamptz,
  PRIMARY KEY (tenant, object)
);
CREATE INDEX archive_objects_times ON archive_objects (tenant, first_at, last_at);
CREATE INDEX archive_objects_ids ON archive_objects (tenant, first_id, last_id);
CREATE INDEX archive_objects_units ON archive_objects (tenant, unit_id);
CREATE INDEX archive_objects_expiry ON archive_objects (expires_at)
  WHERE removed_at IS NULL AND expires_at IS NOT NULL;
CREATE INDEX archive_objects_superseded ON archive_objects (tenant)
  WHERE removed_at IS NULL AND superseded_by IS NOT NULL;
SELECT flotilla_wall('archive_objects', 'tenant');
GRANT SELECT ON archive_objects TO flotilla_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON archive_objects TO flotilla_worker;

-- Logs that an object holds and that stay in PostgreSQL all the same. A log that comes late has no
-- row here, and so becomes a further part.
CREATE TABLE archived_logs (
  tenant      text NOT NULL,
  recorded_at timestamptz NOT NULL,
  id          uuid NOT NULL,
  unit_id     uuid NOT NULL,
  PRIMARY KEY (tenant, recorded_at, id)
);
CREATE INDEX archived_logs_units ON archived_logs (tenant, unit_id);
SELECT flotilla_wall('archived_logs', 'tenant');
GRANT SELECT ON archived_logs TO flotilla_api;
GRANT SELECT, INSERT, DELETE ON archived_logs TO flotilla_worker;
