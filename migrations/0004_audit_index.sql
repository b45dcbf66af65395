-- What the audit subsystem's index worker needs beyond the foundations.

-- A revision keeps what was sent: NULL means "as before". What holds now is the newest value by
-- acceptance (recorded_at, envelope_id), so that revisions that arrive out of order end the same.
ALTER TABLE log_revisions ALTER COLUMN tags DROP NOT NULL;
ALTER TABLE log_revisions ALTER COLUMN tags DROP DEFAULT;

-- Where the erased log stood, so that a redelivered erasure can still reach its search document.
-- NULL when the log was erased before it was ever stored.
ALTER TABLE tombstones ADD COLUMN erased_class text;
ALTER TABLE tombstones ADD COLUMN erased_recorded_at timestamptz;

-- A read by id prunes partitions by the millisecond that a UUIDv7 carries. Ids of the legacy queue
-- are UUIDv5 and carry none; only those are in this index.
CREATE INDEX logs_not_v7 ON logs (tenant, id) WHERE (get_byte(uuid_send(id), 6) >> 4) <> 7;
