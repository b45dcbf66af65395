-- Making and counting the partitions of `logs`.

-- Where the partition that holds `at` starts: days for short classes, months for the others (UTC).
CREATE FUNCTION flotilla_partition_start(class text, at timestamptz) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN date_trunc(CASE WHEN class IN ('7d', '30d', '90d') THEN 'day' ELSE 'month' END,
                  at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';

-- Makes the partition of `class` that holds `at`; false when it was there.
--
-- SECURITY DEFINER, so that the scheduler needs no right to create tables. The table is made apart
-- and then attached: ATTACH lets reads and writes of `logs` go on, which CREATE TABLE .. PARTITION
-- OF does not. Nobody is granted the partition itself, so the walls of `logs` cannot be walked round.
CREATE FUNCTION flotilla_make_partition(class text, at timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET timezone = 'UTC' SET lock_timeout = '5s' AS $$
DECLARE
  daily   boolean := class IN ('7d', '30d', '90d');
  starts  timestamptz := public.flotilla_partition_start(class, at);
  ends    timestamptz := starts + CASE WHEN daily THEN interval '1 day' ELSE interval '1 month' END;
  parent  text := 'logs_' || class;
  child   text := parent || '_' || to_char(starts, CASE WHEN daily THEN 'YYYYMMDD' ELSE 'YYYYMM' END);
BEGIN
  IF class NOT IN ('7d', '30d', '90d', '1y', '7y', 'custom') THEN
    RAISE EXCEPTION '% is not a retention class', class USING ERRCODE = 'invalid_parameter_value';
  END IF;
  -- Two makers at once: the second waits here and then finds the table.
  PERFORM pg_advisory_xact_lock(hashtextextended('flotilla.partition.' || child, 0));
  IF to_regclass('public.' || quote_ident(child)) IS NOT NULL THEN
    RETURN false;
  END IF;
  EXECUTE format('CREATE TABLE public.%I (LIKE public.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS
                  INCLUDING STORAGE INCLUDING COMPRESSION)', child, parent);
  EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY', child);
  EXECUTE format('ALTER TABLE public.%I ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
                 parent, child, starts, ends);
  RETURN true;
END $$;
REVOKE EXECUTE ON FUNCTION flotilla_make_partition(text, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION flotilla_make_partition(text, timestamptz) TO flotilla_worker;

-- Every range partition of `logs` with its bounds.
CREATE VIEW log_partitions AS
SELECT substr(parent.relname, length('logs_') + 1) AS class,
       child.relname::text AS partition,
       (regexp_match(pg_get_expr(child.relpartbound, child.oid), 'FROM \(''([^'']+)''\)'))[1]::timestamptz AS starts_at,
       (regexp_match(pg_get_expr(child.relpartbound, child.oid), 'TO \(''([^'']+)''\)'))[1]::timestamptz AS ends_at
  FROM pg_inherits child_of
  JOIN pg_class child ON child.oid = child_of.inhrelid
  JOIN pg_class parent ON parent.oid = child_of.inhparent
  JOIN pg_inherits parent_of ON parent_of.inhrelid = parent.oid
 WHERE parent_of.inhparent = 'public.logs'::regclass;
GRANT SELECT ON log_partitions TO flotilla_worker;
