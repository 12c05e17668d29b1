-- What the migrations make, printed by schema.ts. Held equal by a test, which also writes it anew.

CREATE OR REPLACE FUNCTION public.instant()
 RETURNS timestamp with time zone
 LANGUAGE sql
 STABLE
AS $function$
  select date_trunc('milliseconds', clock_timestamp() + coalesce((select clock_offset from installation), '0'))
$function$
;

create table boots (
  cluster text not null,
  pod_uid text not null,
  container_id text not null,
  pod text not null,
  address text not null,
  started_at timestamp(3) with time zone not null,
  first_seen_at timestamp(3) with time zone not null default instant(),
  last_seen_at timestamp(3) with time zone not null default instant(),
  tee_key text,
  constraint boots_pkey PRIMARY KEY (cluster, pod_uid, container_id),
  constraint boots_tee_key_key UNIQUE (tee_key)
);

create table branches (
  name text not null,
  commit_id text not null,
  seen_at timestamp(3) with time zone not null default instant(),
  rewritten_to text,
  unread jsonb not null default '[]'::jsonb,
  history text,
  constraint branches_pkey PRIMARY KEY (name)
);

create table brokers (
  name text not null,
  repository text not null,
  generation bigint not null default 0,
  names_sent text[] not null default '{}'::text[],
  baseline text,
  constraint brokers_pkey PRIMARY KEY (name)
);

create table bundles (
  path text not null,
  digest text not null,
  document_path text not null,
  bytes bytea not null,
  first_seen_at timestamp(3) with time zone not null default instant(),
  present boolean not null default true,
  counted boolean not null default false,
  hinted_at timestamp(3) with time zone,
  constraint bundles_pkey PRIMARY KEY (path, digest)
);

create table deliveries (
  digest text not null,
  at timestamp(3) with time zone not null default instant(),
  constraint deliveries_pkey PRIMARY KEY (digest)
);

create table denials (
  revocation text not null,
  revision bigint not null,
  constraint denials_pkey PRIMARY KEY (revocation, revision),
  constraint denials_revision_fkey FOREIGN KEY (revision) REFERENCES revisions(id)
);

create table deny_list (
  id bigint not null generated always as identity,
  kbs text not null,
  path text,
  init_data text,
  device text,
  because text not null,
  at timestamp(3) with time zone not null default instant(),
  lifts bigint,
  constraint deny_list_pkey PRIMARY KEY (id),
  constraint deny_list_check CHECK (((lifts IS NULL) OR ((path IS NULL) AND (init_data IS NULL) AND (device IS NULL)))),
  constraint deny_list_lifts_fkey FOREIGN KEY (lifts) REFERENCES deny_list(id)
);

create table documents (
  seen bigint not null generated always as identity,
  path text not null,
  digest text not null,
  kind text not null,
  bytes bytea not null,
  commit_id text not null,
  first_seen_at timestamp(3) with time zone not null default instant(),
  present boolean not null default true,
  verdict text not null default 'waiting'::text,
  reason text,
  about text,
  judged_at timestamp(3) with time zone,
  trust_version integer,
  approved_by text[] not null default '{}'::text[],
  workload text,
  serial integer,
  kbs text[],
  basis jsonb,
  subject jsonb,
  lifted_by text,
  hinted_at timestamp(3) with time zone,
  signatures jsonb not null default '[]'::jsonb,
  constraint documents_pkey PRIMARY KEY (path, digest),
  constraint documents_verdict_check CHECK ((verdict = ANY (ARRAY['waiting'::text, 'accepted'::text, 'refused'::text])))
);

create table events (
  id bigint not null generated always as identity,
  at timestamp(3) with time zone not null default instant(),
  event text not null,
  run text,
  workload text,
  body jsonb not null default '{}'::jsonb,
  constraint events_pkey PRIMARY KEY (id)
);

create table fetches (
  id bigint not null generated always as identity,
  kbs text not null,
  proxy text not null,
  path text not null,
  at timestamp(3) with time zone not null default instant(),
  address text not null,
  session_digest text,
  token_digest text,
  handshake bigint,
  decision text not null,
  status integer not null,
  type text,
  generation bigint not null default 0,
  request_id text not null,
  constraint fetches_pkey PRIMARY KEY (id),
  constraint fetches_decision_check CHECK ((decision = ANY (ARRAY['released'::text, 'refused'::text]))),
  constraint fetches_handshake_fkey FOREIGN KEY (handshake) REFERENCES handshakes(id)
);

create table handshakes (
  id bigint not null generated always as identity,
  kbs text not null,
  proxy text not null,
  at timestamp(3) with time zone not null default instant(),
  address text not null,
  session_digest text not null,
  token_digest text not null,
  token text not null,
  tee_key text not null,
  constraint handshakes_pkey PRIMARY KEY (id)
);

create table heads (
  tree_size bigint not null,
  body text not null,
  signature text not null,
  at timestamp(3) with time zone not null default instant(),
  constraint heads_pkey PRIMARY KEY (tree_size)
);

create table holds (
  id bigint not null generated always as identity,
  kind text not null,
  subject text not null,
  chain text not null,
  why text not null,
  held_by text not null,
  at timestamp(3) with time zone not null default instant(),
  lifted_at timestamp(3) with time zone,
  lifted_by text,
  lifted_why text,
  constraint holds_pkey PRIMARY KEY (id),
  constraint holds_kind_check CHECK ((kind = ANY (ARRAY['run'::text, 'workload'::text, 'all'::text]))),
  constraint holds_chain_fkey FOREIGN KEY (chain) REFERENCES runs(id)
);

create table installation (
  only_one boolean not null default true,
  name text not null,
  mode text not null,
  clock_offset interval not null default '00:00:00'::interval,
  constraint installation_pkey PRIMARY KEY (only_one),
  constraint installation_check CHECK (((mode <> 'production'::text) OR (clock_offset = '00:00:00'::interval))),
  constraint installation_mode_check CHECK ((mode = ANY (ARRAY['production'::text, 'lab'::text]))),
  constraint installation_only_one_check CHECK (only_one)
);

create table migrations (
  name text not null,
  breaking boolean not null,
  applied_at timestamp(3) with time zone not null default clock_timestamp(),
  constraint migrations_pkey PRIMARY KEY (name)
);

create table outages (
  cluster text not null,
  since timestamp(3) with time zone not null default instant(),
  reason text not null,
  about text not null,
  asked_at timestamp(3) with time zone not null default instant(),
  constraint outages_pkey PRIMARY KEY (cluster)
);

create table polls (
  branch text not null,
  read_at timestamp(3) with time zone,
  failing_since timestamp(3) with time zone,
  reason text,
  about text,
  constraint polls_pkey PRIMARY KEY (branch)
);

create table predecessors (
  platform text not null,
  serial integer not null,
  name text not null,
  value jsonb not null,
  reason text,
  about text,
  since timestamp(3) with time zone not null default instant(),
  let_go_at timestamp(3) with time zone,
  chain text,
  constraint predecessors_pkey PRIMARY KEY (platform, serial, name, value),
  constraint predecessors_chain_fkey FOREIGN KEY (chain) REFERENCES runs(id)
);

create table probers (
  tee_key text not null,
  at timestamp(3) with time zone not null default instant(),
  constraint probers_pkey PRIMARY KEY (tee_key)
);

create table proxies (
  id text not null,
  kbs text not null,
  acknowledged bigint not null default 0,
  stale_seconds integer not null,
  seen_at timestamp(3) with time zone not null default instant(),
  constraint proxies_pkey PRIMARY KEY (id)
);

create table receipts (
  id bigint not null generated always as identity,
  run text not null,
  number integer not null,
  step text not null,
  at timestamp(3) with time zone not null,
  body text not null,
  digest text not null,
  seq bigint,
  constraint receipts_pkey PRIMARY KEY (id),
  constraint receipts_run_number_key UNIQUE (run, number),
  constraint receipts_seq_key UNIQUE (seq),
  constraint receipts_run_fkey FOREIGN KEY (run) REFERENCES runs(id)
);

create table refused_deliveries (
  reason text not null,
  about text not null,
  times bigint not null default 1,
  first_at timestamp(3) with time zone not null default instant(),
  last_at timestamp(3) with time zone not null default instant(),
  constraint refused_deliveries_pkey PRIMARY KEY (reason)
);

create table resources (
  path text not null,
  store text not null,
  key_id text not null,
  context jsonb not null,
  wrapped text not null,
  canary text not null,
  digest text not null,
  signature text not null,
  created_at timestamp(3) with time zone not null default instant(),
  constraint resources_pkey PRIMARY KEY (path)
);

create table revisions (
  id bigint not null generated always as identity,
  workload text not null,
  serial integer not null,
  release text not null,
  serials integer[] not null,
  releases text[] not null,
  sealing bigint not null,
  rotation text not null,
  path_number integer not null default 0,
  state text not null default 'accepted'::text,
  went_live boolean not null default false,
  kbs text[] not null,
  withdrawn_by text,
  revoked_by text,
  accepted_at timestamp(3) with time zone not null default instant(),
  constraint revisions_pkey PRIMARY KEY (id),
  constraint revisions_release_sealing_key UNIQUE (release, sealing),
  constraint revisions_rotation_key UNIQUE (rotation),
  constraint revisions_state_check CHECK ((state = ANY (ARRAY['accepted'::text, 'live'::text, 'published'::text, 'serving'::text, 'closing'::text, 'retired'::text]))),
  constraint revisions_sealing_fkey FOREIGN KEY (sealing) REFERENCES sealings(id)
);

create table runs (
  id text not null,
  workflow text not null,
  revision bigint,
  revocation text,
  workload text not null,
  cause text,
  claim bigint not null default 0,
  owner text,
  generations jsonb not null default '{}'::jsonb,
  wake_at timestamp(3) with time zone default instant(),
  waiting_for text,
  about text,
  since timestamp(3) with time zone,
  step text,
  next_retry_at timestamp(3) with time zone,
  failures integer not null default 0,
  deadline timestamp(3) with time zone,
  progress jsonb,
  created_at timestamp(3) with time zone not null default instant(),
  ended_at timestamp(3) with time zone,
  reinstatement text,
  constraint runs_pkey PRIMARY KEY (id),
  constraint runs_cause_fkey FOREIGN KEY (cause) REFERENCES runs(id),
  constraint runs_revision_fkey FOREIGN KEY (revision) REFERENCES revisions(id)
);

create table schedules (
  name text not null,
  fired_at timestamp(3) with time zone not null,
  fired_by text not null,
  constraint schedules_pkey PRIMARY KEY (name)
);

create table sealings (
  id bigint not null generated always as identity,
  workload text not null,
  epoch integer not null,
  rotation text not null,
  source bigint,
  taken boolean not null default false,
  constraint sealings_pkey PRIMARY KEY (id),
  constraint sealings_rotation_key UNIQUE (rotation),
  constraint sealings_workload_epoch_key UNIQUE (workload, epoch),
  constraint sealings_source_fkey FOREIGN KEY (source) REFERENCES sealings(id)
);

create table sends (
  id bigint not null generated always as identity,
  system text not null,
  verb text not null,
  path text,
  generation bigint not null default 0,
  run text,
  rotation text,
  at timestamp(3) with time zone not null default instant(),
  answered_at timestamp(3) with time zone,
  status integer,
  type text,
  detail jsonb not null default '{}'::jsonb,
  constraint sends_pkey PRIMARY KEY (id)
);

CREATE INDEX boots_address_idx ON public.boots USING btree (address);

CREATE INDEX bundles_document_path_idx ON public.bundles USING btree (document_path);

CREATE INDEX deny_list_kbs_idx ON public.deny_list USING btree (kbs) WHERE (because <> 'retired'::text);

CREATE INDEX deny_list_kbs_path_idx ON public.deny_list USING btree (kbs, path);

CREATE UNIQUE INDEX deny_list_lifts_idx ON public.deny_list USING btree (lifts) WHERE (lifts IS NOT NULL);

CREATE INDEX documents_digest_idx ON public.documents USING btree (digest);

CREATE INDEX documents_kind_verdict_idx ON public.documents USING btree (kind, verdict);

CREATE UNIQUE INDEX documents_workload_serial_idx ON public.documents USING btree (workload, serial) WHERE ((kind = 'Release'::text) AND (verdict = 'accepted'::text));

CREATE INDEX fetches_kbs_path_at_idx ON public.fetches USING btree (kbs, path, at);

CREATE INDEX handshakes_kbs_session_digest_idx ON public.handshakes USING btree (kbs, session_digest);

CREATE INDEX handshakes_kbs_token_digest_idx ON public.handshakes USING btree (kbs, token_digest);

CREATE UNIQUE INDEX holds_kind_subject_idx ON public.holds USING btree (kind, subject) WHERE (lifted_at IS NULL);

CREATE INDEX revisions_workload_idx ON public.revisions USING btree (workload);

CREATE INDEX runs_revocation_idx ON public.runs USING btree (revocation) WHERE (revocation IS NOT NULL);

CREATE INDEX runs_workload_idx ON public.runs USING btree (workload) WHERE (ended_at IS NULL);

CREATE UNIQUE INDEX runs_workflow_revision_idx ON public.runs USING btree (workflow, revision) WHERE (ended_at IS NULL);

CREATE UNIQUE INDEX runs_workflow_revocation_idx ON public.runs USING btree (workflow, revocation) WHERE ((ended_at IS NULL) AND (revocation IS NOT NULL));

CREATE INDEX sends_system_verb_path_idx ON public.sends USING btree (system, verb, path);
