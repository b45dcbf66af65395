-- The retention worker and the scheduler's part in it: how far a run's units are told, and how far each
-- policy's schedule is followed.

-- Up to this number the run's units have their messages in the outbox: they are put page by page, each
-- page with this mark in one transaction, so that a worker that dies puts none of them twice.
ALTER TABLE retention_runs ADD COLUMN units_told integer NOT NULL DEFAULT 0 CHECK (units_told >= 0);
-- The evaluation that waits comes again at this time: so long, whoever sees it puts no further message.
ALTER TABLE retention_runs ADD COLUMN again_at timestamptz;
CREATE INDEX retention_runs_line ON retention_runs (tenant, policy_id, created_at)
  WHERE state IN ('planning', 'running');

-- Cancelling a run keeps its units that nobody has begun.
GRANT UPDATE (state, updated_at, held_events, held_bytes) ON archive_units TO flotilla_api;
GRANT INSERT ON archive_discards TO flotilla_api;

-- A row per policy that a scheduler has seen.
CREATE TABLE policy_slots (
  tenant     text NOT NULL,
  policy_id  uuid NOT NULL,
  -- The newest version when it was last looked at; another number is looked at anew.
  version    bigint NOT NULL CHECK (version > 0),
  -- Slots up to this time are done or were passed over; it grows, whatever the clock does, but where it lies
  -- a day ahead of a clock that is right again.
  last_slot  timestamptz NOT NULL,
  -- When there is something to do next; NULL: never, unless the policy is changed.
  due_at     timestamptz,
  PRIMARY KEY (tenant, policy_id),
  FOREIGN KEY (tenant, policy_id) REFERENCES policies (tenant, id)
);
CREATE INDEX policy_slots_due ON policy_slots (due_at) WHERE due_at IS NOT NULL;
SELECT flotilla_wall('policy_slots', 'tenant');
GRANT SELECT ON policy_slots TO flotilla_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON policy_slots TO flotilla_worker;
