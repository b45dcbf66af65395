-- Full-text search in PostgreSQL: a table of its own, written by `sinks::search::postgres` alone and
-- made from `logs`, so that a fleet with OpenSearch does not pay for it and it can be thrown away.

CREATE TABLE search_documents (
  tenant      text NOT NULL,
  id          uuid NOT NULL,
  class       text NOT NULL,
  recorded_at timestamptz NOT NULL,
  occurred_at timestamptz,
  -- Of the log; an erased one has the highest there is, so that no late write brings it back.
  revision    bigint NOT NULL,
  erased      boolean NOT NULL DEFAULT false,
  -- Tokens with their positions, made by the application; and the tenant as a lexeme no text can
  -- contain, so that the index finds one tenant's words and not everybody's.
  words       tsvector NOT NULL,
  -- Exact-match terms by field, and the tenant, for the same reason.
  terms       jsonb NOT NULL,
  written_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (tenant, id)
);
CREATE INDEX search_documents_newest ON search_documents (tenant, recorded_at DESC, id DESC)
  WHERE NOT erased;
CREATE INDEX search_documents_words ON search_documents USING gin (words) WHERE NOT erased;
CREATE INDEX search_documents_terms ON search_documents USING gin (terms jsonb_path_ops)
  WHERE NOT erased;
CREATE INDEX search_documents_erased ON search_documents (written_at) WHERE erased;
SELECT flotilla_wall('search_documents', 'tenant');
-- No grant to the API: under row-level security the planner would drop the GIN indexes, since
-- their operators are not leakproof. It searches through the functions below, which are bound to
-- the session's tenant and run as the owner.
GRANT SELECT, INSERT, UPDATE, DELETE ON search_documents TO flotilla_worker;

-- The tenant that a search may see; a search without one is an error, not an empty answer.
CREATE FUNCTION flotilla_search_tenant() RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  tenant text := public.flotilla_tenant();
BEGIN
  IF tenant IS NULL THEN
    RAISE EXCEPTION 'flotilla.tenant is not set' USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN tenant;
END $$;

-- One page, newest first. EXECUTE, so that each search is planned with its own values: a rare word
-- goes through GIN, no word at all through the newest-first index.
CREATE FUNCTION flotilla_search(
  words tsquery, terms jsonb,
  recorded_from timestamptz, recorded_to timestamptz,
  occurred_from timestamptz, occurred_to timestamptz,
  after_at timestamptz, after_id uuid, page integer)
RETURNS TABLE (id uuid, class text, recorded_at timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  RETURN QUERY EXECUTE
    'SELECT d.id, d.class, d.recorded_at
       FROM public.search_documents d
      WHERE d.tenant = $1 AND NOT d.erased
        AND ($2 IS NULL OR d.words @@ $2)
        AND ($3 IS NULL OR d.terms @> $3)
        AND ($4 IS NULL OR d.recorded_at >= $4) AND ($5 IS NULL OR d.recorded_at < $5)
        AND ($6 IS NULL OR d.occurred_at >= $6) AND ($7 IS NULL OR d.occurred_at < $7)
        AND ($8 IS NULL OR (d.recorded_at, d.id) < ($8, $9))
      ORDER BY d.recorded_at DESC, d.id DESC
      LIMIT least($10, 1000)'
  USING public.flotilla_search_tenant(), words, terms, recorded_from, recorded_to,
        occurred_from, occurred_to, after_at, after_id, page;
END $$;

-- How many there are in all.
CREATE FUNCTION flotilla_search_count(
  words tsquery, terms jsonb,
  recorded_from timestamptz, recorded_to timestamptz,
  occurred_from timestamptz, occurred_to timestamptz)
RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  found_rows bigint;
BEGIN
  EXECUTE
    'SELECT count(*)
       FROM public.search_documents d
      WHERE d.tenant = $1 AND NOT d.erased
        AND ($2 IS NULL OR d.words @@ $2)
        AND ($3 IS NULL OR d.terms @> $3)
        AND ($4 IS NULL OR d.recorded_at >= $4) AND ($5 IS NULL OR d.recorded_at < $5)
        AND ($6 IS NULL OR d.occurred_at >= $6) AND ($7 IS NULL OR d.occurred_at < $7)'
  INTO found_rows
  USING public.flotilla_search_tenant(), words, terms, recorded_from, recorded_to,
        occurred_from, occurred_to;
  RETURN found_rows;
END $$;

REVOKE EXECUTE ON FUNCTION flotilla_search_tenant(),
  flotilla_search(tsquery, jsonb, timestamptz, timestamptz, timestamptz, timestamptz, timestamptz, uuid, integer),
  flotilla_search_count(tsquery, jsonb, timestamptz, timestamptz, timestamptz, timestamptz)
  FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
  flotilla_search(tsquery, jsonb, timestamptz, timestamptz, timestamptz, timestamptz, timestamptz, uuid, integer),
  flotilla_search_count(tsquery, jsonb, timestamptz, timestamptz, timestamptz, timestamptz)
  TO flotilla_api, flotilla_worker;
