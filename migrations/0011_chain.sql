-- The chain of signed documents of each tenant (audit::archive): numbered and stored in the transaction
-- that they speak of, sealed and put into the object store afterwards.

-- Public halves of the signing keys. The one with the highest number signs what comes next.
CREATE TABLE signing_keys (
  number      bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
  key_id      text PRIMARY KEY CHECK (char_length(key_id) <= 120),
  public_key  text NOT NULL CHECK (char_length(public_key) <= 300),
  reason      text NOT NULL CHECK (char_length(reason) BETWEEN 1 AND 200),
  created_by  text NOT NULL CHECK (char_length(created_by) BETWEEN 1 AND 200),
  created_at  timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT ON signing_keys TO flotilla_worker;

-- The end of a tenant's chain; locked by whoever appends.
CREATE TABLE chain_heads (
  tenant        text PRIMARY KEY,
  sequence      bigint NOT NULL DEFAULT 0,
  sha256        bytea CHECK (octet_length(sha256) = 32),
  issued_at     timestamptz,
  -- The key that signs the next document.
  key_id        text REFERENCES signing_keys (key_id),
  -- Documents from 1 up to here are in the object store, and when the last of them got there.
  stored        bigint NOT NULL DEFAULT 0 CHECK (stored <= sequence),
  stored_at     timestamptz,
  -- The Merkle tree of the first documents: how many, and the roots of its perfect subtrees.
  tree_size     bigint NOT NULL DEFAULT 0,
  tree          bytea NOT NULL DEFAULT '' CHECK (octet_length(tree) <= 2048)
);
SELECT flotilla_wall('chain_heads', 'tenant');
GRANT SELECT, INSERT, UPDATE ON chain_heads TO flotilla_worker;

-- Every document, as its line and, once it is signed, its seal; the file in the store is the line, an
-- empty line and the seal. Never changed after it is sealed, never deleted.
CREATE TABLE chain_documents (
  tenant      text NOT NULL,
  sequence    bigint NOT NULL CHECK (sequence > 0),
  kind        text NOT NULL CHECK (kind IN ('key', 'manifest', 'receipt')),
  document    bytea NOT NULL CHECK (octet_length(document) <= 2097152),
  sha256      bytea NOT NULL CHECK (octet_length(sha256) = 32),
  leaf        bytea NOT NULL CHECK (octet_length(leaf) = 32),
  key_id      text NOT NULL,
  -- The new key of a rotation, which signs its record too and everything after it.
  cosigner    text,
  issued_at   timestamptz NOT NULL,
  seal        bytea CHECK (octet_length(seal) <= 65536),
  sealed_at   timestamptz,
  stored_at   timestamptz,
  PRIMARY KEY (tenant, sequence)
);
CREATE INDEX chain_documents_unstored ON chain_documents (tenant, sequence) WHERE stored_at IS NULL;
SELECT flotilla_wall('chain_documents', 'tenant');
GRANT SELECT, INSERT, UPDATE ON chain_documents TO flotilla_worker;

-- Signed heads, kept as they were signed: so one is put under its name again with the same bytes.
CREATE TABLE chain_checkpoints (
  tenant      text NOT NULL,
  size        bigint NOT NULL CHECK (size > 0),
  signed_at   timestamptz NOT NULL,
  file        bytea NOT NULL CHECK (octet_length(file) <= 65536),
  stored_at   timestamptz,
  -- In the second store.
  copied_at   timestamptz,
  PRIMARY KEY (tenant, signed_at)
);
SELECT flotilla_wall('chain_checkpoints', 'tenant');
GRANT SELECT, INSERT, UPDATE ON chain_checkpoints TO flotilla_worker;
