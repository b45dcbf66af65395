-- Tickets for the live tail: a browser cannot send headers with a WebSocket, so it asks for a ticket
-- with its key first and presents it once, within a minute. Kept as a hash; taken by deleting it.
CREATE TABLE live_tickets (
  tenant        text NOT NULL,
  ticket_sha256 bytea NOT NULL CHECK (octet_length(ticket_sha256) = 32),
  key_id        text NOT NULL,
  expires_at    timestamptz NOT NULL,
  PRIMARY KEY (tenant, ticket_sha256)
);
SELECT flotilla_wall('live_tickets', 'tenant');
GRANT SELECT, INSERT, DELETE ON live_tickets TO flotilla_api;
GRANT SELECT, DELETE ON live_tickets TO flotilla_worker;
