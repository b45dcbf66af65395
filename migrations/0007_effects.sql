-- Effects once: what was done, kept longer than a message can be redelivered, so that none does it
-- again. An entry of an effect in PostgreSQL is written by the effect's own transaction and is done
-- from the start; one of an effect elsewhere is in progress first, for as long as its delivery's
-- lease, and `epoch` tells its holders apart.
CREATE TABLE effects (
  tenant     text NOT NULL,
  scope      text NOT NULL CHECK (char_length(scope) BETWEEN 1 AND 100),
  key        text NOT NULL CHECK (octet_length(key) BETWEEN 1 AND 256),
  epoch      bigint NOT NULL CHECK (epoch >= 0),
  holder     text NOT NULL,
  since      timestamptz NOT NULL,
  -- NULL: done.
  busy_until timestamptz,
  outcome    bytea NOT NULL DEFAULT '' CHECK (octet_length(outcome) <= 4096),
  expires_at timestamptz NOT NULL,
  PRIMARY KEY (tenant, scope, key)
);
CREATE INDEX effects_expiry ON effects (expires_at);
SELECT flotilla_wall('effects', 'tenant');
GRANT SELECT, INSERT, UPDATE, DELETE ON effects TO flotilla_worker;
