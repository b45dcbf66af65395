-- Alerts: one row per thing that can be wrong, open or closed, so that it is told once whoever finds it
-- and however often. A notice is what is to be told, written by the statement that changed the alert;
-- that it was told to whom stands in `effects`.
CREATE TABLE alerts (
  tenant      text NOT NULL,
  -- What is wrong, e.g. `dead-letters/audit-index`.
  name        text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 200),
  -- Of this opening; the next one has another.
  episode     uuid NOT NULL,
  severity    text NOT NULL CHECK (severity IN ('info', 'warning', 'critical')),
  title       text NOT NULL CHECK (char_length(title) BETWEEN 1 AND 200),
  text        text NOT NULL CHECK (char_length(text) <= 4000),
  opened_at   timestamptz NOT NULL,
  raised_at   timestamptz NOT NULL,
  -- Times it was found since it opened.
  raised      bigint NOT NULL CHECK (raised >= 1),
  -- When it was last told of.
  told_at     timestamptz NOT NULL,
  -- Since when it is not found any more; it closes when that has lasted.
  quiet_since timestamptz,
  closed_at   timestamptz,
  PRIMARY KEY (tenant, name)
);
CREATE INDEX alerts_open ON alerts (told_at) WHERE closed_at IS NULL;
CREATE INDEX alerts_closed ON alerts (closed_at) WHERE closed_at IS NOT NULL;
SELECT flotilla_wall('alerts', 'tenant');
GRANT SELECT, INSERT, UPDATE, DELETE ON alerts TO flotilla_worker;

CREATE TABLE alert_notices (
  id         uuid PRIMARY KEY,
  tenant     text NOT NULL,
  name       text NOT NULL,
  episode    uuid NOT NULL,
  notice     text NOT NULL CHECK (notice IN ('opened', 'reminder', 'resolved')),
  severity   text NOT NULL CHECK (severity IN ('info', 'warning', 'critical')),
  title      text NOT NULL,
  text       text NOT NULL,
  opened_at  timestamptz NOT NULL,
  raised     bigint NOT NULL,
  at         timestamptz NOT NULL,
  attempts   integer NOT NULL DEFAULT 0,
  next_at    timestamptz NOT NULL,
  done_at    timestamptz
);
CREATE INDEX alert_notices_due ON alert_notices (next_at) WHERE done_at IS NULL;
CREATE INDEX alert_notices_done ON alert_notices (done_at) WHERE done_at IS NOT NULL;
SELECT flotilla_wall('alert_notices', 'tenant');
GRANT SELECT, INSERT, UPDATE, DELETE ON alert_notices TO flotilla_worker;
