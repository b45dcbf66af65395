-- The outbox (database::outbox): messages that a transaction wants sent. They commit with the effect
-- that causes them, and a relay sends them afterwards.

-- Whole messages before packing. Bytes, since an envelope may hold what text and jsonb refuse: 16 MiB
-- of body and its header. A row goes when the broker has accepted its message.
CREATE TABLE outbox (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  queue       text NOT NULL,
  tenant      text NOT NULL,
  -- FIFO group, or the tenant on a standard queue.
  grp         text NOT NULL,
  envelope    bytea NOT NULL CHECK (octet_length(envelope) <= 17825792),
  -- What it travels with: attributes, deduplication id, delay.
  frame       bytea NOT NULL CHECK (octet_length(frame) <= 262144),
  created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  -- Refusals by the broker; a refused message waits and, on a FIFO queue, its group behind it.
  refusals    integer NOT NULL DEFAULT 0,
  not_before  timestamptz,
  last_error  text
);
CREATE INDEX outbox_line ON outbox (queue, id);
CREATE INDEX outbox_held ON outbox (queue, grp, id) WHERE not_before IS NOT NULL;
SELECT flotilla_wall('outbox', 'tenant');
-- The API may add; only the relay sees, marks and takes out.
GRANT INSERT ON outbox TO flotilla_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON outbox TO flotilla_worker;

-- A row per queue that a relay has served. Whoever holds its lock is the one that sends to the queue,
-- so that messages leave in order whatever the number of relays. No tenant's data.
CREATE TABLE outbox_queues (
  queue       text PRIMARY KEY,
  -- Sends in a row that the broker did not answer, and until when it is left alone.
  failures    integer NOT NULL DEFAULT 0,
  not_before  timestamptz
);
GRANT SELECT, INSERT, UPDATE ON outbox_queues TO flotilla_worker;
