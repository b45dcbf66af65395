-- Deletions under way (audit::cleanup): what was deleted, from the first row until the receipt is in the
-- tenant's chain. A row here whose `ended_at` is NULL is a receipt that is pending.

-- One per unit and scope: the rows of a unit, or an object of the archive (then `unit_id` is the unit
-- that wrote it).
CREATE TABLE cleanups (
  tenant           text NOT NULL,
  unit_id          uuid NOT NULL,
  scope            text NOT NULL CHECK (scope IN ('rows', 'object')),
  run_id           uuid NOT NULL,
  -- The object that goes; empty where rows do. Of a unit several may go: those that another has replaced.
  object           text NOT NULL DEFAULT '',
  -- Rows: every log up to this id was looked at.
  after_id         uuid,
  rows_done        boolean NOT NULL DEFAULT false,
  batches          integer NOT NULL DEFAULT 0 CHECK (batches >= 0),
  deleted_events   bigint NOT NULL DEFAULT 0 CHECK (deleted_events >= 0),
  kept_events      bigint NOT NULL DEFAULT 0 CHECK (kept_events >= 0),
  gone_events      bigint NOT NULL DEFAULT 0 CHECK (gone_events >= 0),
  -- Of the last transaction that deleted something.
  holds_at         timestamptz,
  holds_in_force   bigint CHECK (holds_in_force >= 0),
  deleted_at       timestamptz,
  search_empty_at  timestamptz,
  -- Why it stopped before the last row.
  failure          text CHECK (char_length(failure) <= 2000),
  receipt_sequence bigint CHECK (receipt_sequence > 0),
  begun_at         timestamptz NOT NULL DEFAULT now(),
  ended_at         timestamptz,
  PRIMARY KEY (tenant, unit_id, scope, object)
);
CREATE INDEX cleanups_pending ON cleanups (begun_at) WHERE ended_at IS NULL;
SELECT flotilla_wall('cleanups', 'tenant');
GRANT SELECT ON cleanups TO flotilla_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON cleanups TO flotilla_worker;

-- What one transaction deleted: entries of a list of deleted ids (evidence::document::receipt), and
-- when each was recorded. Kept until the list is in the archive's store and the receipt in the chain.
CREATE TABLE cleanup_batches (
  tenant      text NOT NULL,
  unit_id     uuid NOT NULL,
  number      integer NOT NULL CHECK (number > 0),
  entries     bytea NOT NULL CHECK (octet_length(entries) % 48 = 0 AND octet_length(entries) <= 240000),
  recorded_at timestamptz[] NOT NULL CHECK (cardinality(recorded_at) * 48 = octet_length(entries)),
  PRIMARY KEY (tenant, unit_id, number)
);
SELECT flotilla_wall('cleanup_batches', 'tenant');
GRANT SELECT, INSERT, DELETE ON cleanup_batches TO flotilla_worker;
