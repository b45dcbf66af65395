-- Retention policies and legal holds. Neither is ever removed: what was in force when something was
-- deleted has to be shown years later.

-- The newest version's name and state; what it says stands in policy_versions.
CREATE TABLE policies (
  tenant     text NOT NULL,
  id         uuid NOT NULL,
  name       text NOT NULL,
  version    bigint NOT NULL CHECK (version > 0),
  state      text NOT NULL CHECK (state IN ('active', 'disabled', 'deleted')),
  PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX policies_name ON policies (tenant, name) WHERE state <> 'deleted';
SELECT flotilla_wall('policies', 'tenant');
GRANT SELECT, INSERT, UPDATE (name, version, state) ON policies TO flotilla_api;
GRANT SELECT ON policies TO flotilla_worker;

-- In effect at a time: of a policy's versions with effective_from at or before it, the one with the
-- highest number. So a version that is written later takes the place of one that was still to come.
CREATE TABLE policy_versions (
  tenant         text NOT NULL,
  policy_id      uuid NOT NULL,
  version        bigint NOT NULL CHECK (version > 0),
  spec           jsonb NOT NULL,
  effective_from timestamptz NOT NULL,
  created_by     jsonb NOT NULL,
  created_at     timestamptz NOT NULL,
  PRIMARY KEY (tenant, policy_id, version),
  FOREIGN KEY (tenant, policy_id) REFERENCES policies (tenant, id)
);
SELECT flotilla_wall('policy_versions', 'tenant');
GRANT SELECT, INSERT ON policy_versions TO flotilla_api;
GRANT SELECT ON policy_versions TO flotilla_worker;

CREATE TABLE holds (
  tenant         text NOT NULL,
  id             uuid NOT NULL,
  spec           jsonb NOT NULL,
  placed_by      jsonb NOT NULL,
  placed_at      timestamptz NOT NULL,
  released_by    jsonb,
  released_at    timestamptz,
  release_reason text,
  PRIMARY KEY (tenant, id),
  CHECK ((released_at IS NULL) = (released_by IS NULL)
     AND (released_at IS NULL) = (release_reason IS NULL))
);
CREATE INDEX holds_in_force ON holds (tenant, id) WHERE released_at IS NULL;
SELECT flotilla_wall('holds', 'tenant');
GRANT SELECT, INSERT, UPDATE (released_by, released_at, release_reason) ON holds TO flotilla_api;
GRANT SELECT ON holds TO flotilla_worker;

-- What a policy's plan came to, the last one of each day (UTC): what a later one is compared with.
CREATE TABLE plan_figures (
  tenant    text NOT NULL,
  policy_id uuid NOT NULL,
  day       date NOT NULL,
  made_at   timestamptz NOT NULL,
  events    bigint NOT NULL,
  bytes     bigint NOT NULL,
  PRIMARY KEY (tenant, policy_id, day)
);
SELECT flotilla_wall('plan_figures', 'tenant');
GRANT SELECT, INSERT, UPDATE, DELETE ON plan_figures TO flotilla_api, flotilla_worker;

-- The API's own audit entries, in the transaction of what they tell about. It may write none but
-- these: for the session's tenant and for `system`, of actions that no client may send.
CREATE FUNCTION flotilla_self_audit(
  of_tenant text, of_id uuid, of_class text, at timestamptz, of_record bytea, of_sha256 bytea,
  of_salt bytea, of_actor_type text, of_actor_id text, of_action text, of_target_types text[],
  of_target_ids text[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  IF of_tenant IS DISTINCT FROM 'system' AND of_tenant IS DISTINCT FROM public.flotilla_tenant() THEN
    RAISE EXCEPTION 'an audit entry of another tenant' USING ERRCODE = 'insufficient_privilege';
  END IF;
  IF of_action NOT LIKE 'flotilla.%' THEN
    RAISE EXCEPTION 'not an action of the fleet itself' USING ERRCODE = 'insufficient_privilege';
  END IF;
  INSERT INTO public.logs (tenant, id, retention_class, recorded_at, record, sha256, leaf_salt,
                           actor_type, actor_id, action, outcome, target_types, target_ids)
  VALUES (of_tenant, of_id, of_class, at, of_record, of_sha256, of_salt, of_actor_type, of_actor_id,
          of_action, 'success', of_target_types, of_target_ids)
  ON CONFLICT DO NOTHING;
END $$;
REVOKE EXECUTE ON FUNCTION flotilla_self_audit(text, uuid, text, timestamptz, bytea, bytea, bytea, text,
                                               text, text, text[], text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION flotilla_self_audit(text, uuid, text, timestamptz, bytea, bytea, bytea, text,
                                              text, text, text[], text[]) TO flotilla_api;
