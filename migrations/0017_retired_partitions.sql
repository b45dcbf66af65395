-- Retiring partitions of `logs`: an empty one whose time is over is detached, and days later dropped, so that
-- the disk comes back. Rows go by their deletion alone, each with its tombstone and receipt; nothing here
-- takes a row away.

-- One row per retirement. Kept for longer than the longest class: by it a log that comes late is known to belong
-- into a partition that was there (database::partitions::retire::remake).
CREATE TABLE detached_partitions (
  id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  partition      text NOT NULL,
  class          text NOT NULL,
  starts_at      timestamptz NOT NULL,
  ends_at        timestamptz NOT NULL,
  detached_at    timestamptz NOT NULL DEFAULT now(),
  detached_bytes bigint NOT NULL CHECK (detached_bytes >= 0),
  -- Somebody wrote into it by hand: it stays until somebody looks.
  occupied_at    timestamptz,
  dropped_at     timestamptz,
  dropped_bytes  bigint CHECK (dropped_bytes >= 0)
);
CREATE UNIQUE INDEX detached_partitions_waiting ON detached_partitions (partition) WHERE dropped_at IS NULL;
CREATE INDEX detached_partitions_range ON detached_partitions (class, starts_at);
-- Written by the functions below alone.
GRANT SELECT ON detached_partitions TO flotilla_worker;

-- Detaches a partition that is empty and ended 60 days ago or longer, and notes it, in one transaction.
-- `outcome`: detached | occupied | refused (no partition of `logs`, or too young).
--
-- Whether it is empty is asked twice: first without a lock worth the name, since a look at a table full of dead
-- rows may take long; then under one that keeps writers out of this partition and nobody out of any other. Only
-- then is the class locked, which its readers and writers wait for: not longer than the lock timeout, which is
-- below deadlock_timeout, so that who waits for us is never the one that is cancelled. DETACH .. CONCURRENTLY
-- needs no such lock, but no function may run it, and it can stop halfway.
--
-- `row_security = off` turns a policy that would hide rows into an error: hidden is not empty.
CREATE FUNCTION flotilla_detach_partition(child text, OUT outcome text, OUT bytes bigint)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET timezone = 'UTC' SET lock_timeout = '200ms'
SET row_security = off AS $$
DECLARE
  found_   record;
  occupied boolean;
  pending  boolean;
BEGIN
  -- An older snapshot would not see rows that were committed since.
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'partitions are detached under READ COMMITTED only'
      USING ERRCODE = 'invalid_transaction_state';
  END IF;
  PERFORM pg_advisory_xact_lock(hashtextextended('flotilla.partition.' || child, 0));
  SELECT p.class, p.starts_at, p.ends_at INTO found_ FROM public.log_partitions p
   WHERE p.partition = child AND p.ends_at <= now() - interval '60 days';
  IF NOT FOUND THEN
    outcome := 'refused';
    RETURN;
  END IF;

  EXECUTE format('SELECT EXISTS (SELECT FROM public.%I)', child) INTO occupied;
  IF NOT occupied THEN
    EXECUTE format('LOCK TABLE public.%I IN SHARE MODE', child);
    EXECUTE format('SELECT EXISTS (SELECT FROM public.%I)', child) INTO occupied;
  END IF;
  IF occupied THEN
    outcome := 'occupied';
    RETURN;
  END IF;

  bytes := pg_total_relation_size(to_regclass('public.' || quote_ident(child)));
  -- Begun by hand with CONCURRENTLY, and interrupted: no new query sees it, and it is not detached yet.
  SELECT i.inhdetachpending INTO pending FROM pg_inherits i
   WHERE i.inhrelid = to_regclass('public.' || quote_ident(child));
  EXECUTE format('ALTER TABLE public.%I DETACH PARTITION public.%I', 'logs_' || found_.class, child)
          || CASE WHEN pending THEN ' FINALIZE' ELSE '' END;
  INSERT INTO public.detached_partitions (partition, class, starts_at, ends_at, detached_bytes)
  VALUES (child, found_.class, found_.starts_at, found_.ends_at, bytes);
  DELETE FROM public.detached_partitions d
   WHERE d.dropped_at IS NOT NULL AND d.ends_at < now() - interval '8 years';
  outcome := 'detached';
END $$;
REVOKE EXECUTE ON FUNCTION flotilla_detach_partition(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION flotilla_detach_partition(text) TO flotilla_worker;

-- Drops what was detached at least `term` ago, after looking once more whether it is empty.
-- `outcome`: dropped | occupied | attached (again, by hand: then it is a partition like any other) | refused.
CREATE FUNCTION flotilla_drop_partition(child text, term interval, OUT outcome text, OUT bytes bigint)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET timezone = 'UTC' SET lock_timeout = '200ms'
SET row_security = off AS $$
DECLARE
  note     bigint;
  target   regclass;
  occupied boolean;
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'partitions are dropped under READ COMMITTED only'
      USING ERRCODE = 'invalid_transaction_state';
  END IF;
  PERFORM pg_advisory_xact_lock(hashtextextended('flotilla.partition.' || child, 0));
  SELECT d.id INTO note FROM public.detached_partitions d
   WHERE d.partition = child AND d.dropped_at IS NULL AND d.detached_at <= now() - term;
  IF NOT FOUND THEN
    outcome := 'refused';
    RETURN;
  END IF;
  target := to_regclass('public.' || quote_ident(child));
  -- Dropped by hand: nothing is freed by us.
  bytes := 0;
  IF target IS NOT NULL THEN
    IF EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = target) THEN
      DELETE FROM public.detached_partitions d WHERE d.id = note;
      outcome := 'attached';
      RETURN;
    END IF;
    EXECUTE format('LOCK TABLE public.%I IN ACCESS EXCLUSIVE MODE', child);
    EXECUTE format('SELECT EXISTS (SELECT FROM public.%I)', child) INTO occupied;
    IF occupied THEN
      UPDATE public.detached_partitions d SET occupied_at = now() WHERE d.id = note;
      outcome := 'occupied';
      RETURN;
    END IF;
    bytes := pg_total_relation_size(target);
    EXECUTE format('DROP TABLE public.%I', child);
  END IF;
  UPDATE public.detached_partitions d
     SET dropped_at = now(), dropped_bytes = bytes, occupied_at = NULL WHERE d.id = note;
  outcome := 'dropped';
END $$;
REVOKE EXECUTE ON FUNCTION flotilla_drop_partition(text, interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION flotilla_drop_partition(text, interval) TO flotilla_worker;

-- As before, and what was detached gives its name to the new one: at once where it is empty; where somebody
-- wrote into it, it is attached as it is, so that its rows are seen.
CREATE OR REPLACE FUNCTION flotilla_make_partition(class text, at timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET timezone = 'UTC' SET lock_timeout = '5s' AS $$
DECLARE
  daily   boolean := class IN ('7d', '30d', '90d');
  starts  timestamptz := public.flotilla_partition_start(class, at);
  ends    timestamptz := starts + CASE WHEN daily THEN interval '1 day' ELSE interval '1 month' END;
  parent  text := 'logs_' || class;
  child   text := parent || '_' || to_char(starts, CASE WHEN daily THEN 'YYYYMMDD' ELSE 'YYYYMM' END);
  left_   text;
BEGIN
  IF class NOT IN ('7d', '30d', '90d', '1y', '7y', 'custom') THEN
    RAISE EXCEPTION '% is not a retention class', class USING ERRCODE = 'invalid_parameter_value';
  END IF;
  -- Two makers at once: the second waits here and then finds the table.
  PERFORM pg_advisory_xact_lock(hashtextextended('flotilla.partition.' || child, 0));
  IF to_regclass('public.' || quote_ident(child)) IS NOT NULL THEN
    SELECT d.outcome INTO left_ FROM public.flotilla_drop_partition(child, interval '0') d;
    IF left_ NOT IN ('dropped', 'occupied') THEN
      RETURN false;
    END IF;
  END IF;
  IF left_ = 'occupied' THEN
    DELETE FROM public.detached_partitions d WHERE d.partition = child AND d.dropped_at IS NULL;
  ELSE
    EXECUTE format('CREATE TABLE public.%I (LIKE public.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS
                    INCLUDING STORAGE INCLUDING COMPRESSION)', child, parent);
    EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY', child);
  END IF;
  EXECUTE format('ALTER TABLE public.%I ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
                 parent, child, starts, ends);
  RETURN true;
END $$;
