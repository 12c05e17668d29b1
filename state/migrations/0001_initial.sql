-- Everything that Keyturn remembers (DESIGN §5). Times are instants with milliseconds, on one clock.

create table installation (
  only_one boolean primary key default true check (only_one),
  name text not null,
  mode text not null check (mode in ('production', 'lab')),
  clock_offset interval not null default '0',
  check (mode <> 'production' or clock_offset = '0')
);

-- The one clock. Everything that compares times calls it.
create function instant() returns timestamptz(3) language sql stable as $$
  select date_trunc('milliseconds', clock_timestamp() + coalesce((select clock_offset from installation), '0'))
$$;

-- What Git held: bytes by digest at a path, and what became of them.
create table documents (
  seen bigint generated always as identity,   -- the order in which bytes were first seen
  path text not null,
  digest text not null,
  kind text not null,                         -- Release, Revocation, …; File for what a document names by digest; Unknown for what does not belong
                                              -- at its path, so that the same bytes at a wrong path are never taken for the document
  bytes bytea not null,
  commit_id text not null,                    -- where it was first seen
  first_seen_at timestamptz(3) not null default instant(),
  present boolean not null default true,      -- whether the branch's tip holds these bytes at this path
  verdict text not null default 'waiting' check (verdict in ('waiting', 'accepted', 'refused')),
  reason text,
  about text,
  judged_at timestamptz(3),
  trust_version integer,
  approved_by text[] not null default '{}',
  workload text,
  serial integer,
  kbs text[],                                 -- a release's
  basis jsonb,                                -- a release's: the sealing that it keeps, or starts from; null: plaintext
  subject jsonb,                              -- a revocation's
  primary key (path, digest)
);
create index on documents (digest);
create index on documents (kind, verdict);
create unique index on documents (workload, serial) where kind = 'Release' and verdict = 'accepted';

create table bundles (
  path text not null,                         -- the bundle's own path
  digest text not null,
  document_path text not null,
  bytes bytea not null,
  first_seen_at timestamptz(3) not null default instant(),
  present boolean not null default true,
  counted boolean not null default false,     -- carried an acceptance: looked at first, whatever is laid beside it later
  primary key (path, digest)
);
create index on bundles (document_path);

-- The branch: the last commit that was accepted as descending from the one before.
create table branches (
  name text primary key,
  commit_id text not null,
  seen_at timestamptz(3) not null default instant(),
  rewritten_to text,                          -- a tip that does not descend from it; releases are held
  unread jsonb not null default '[]'          -- what the tip shows in the watched folders and nobody reads: [{path, reason, about}]
);

-- How the last look at a branch went: a revocation that cannot be seen must not pass for none.
create table polls (
  branch text primary key,
  read_at timestamptz(3),                     -- the last look that was answered
  failing_since timestamptz(3),
  reason text,
  about text
);

-- Webhook deliveries that were taken: the same one again is a replay.
create table deliveries (
  digest text primary key,                    -- of its signature
  at timestamptz(3) not null default instant()
);

-- Those that were not, counted by reason.
create table refused_deliveries (
  reason text primary key,
  about text not null,                        -- of the last of them
  times bigint not null default 1,
  first_at timestamptz(3) not null default instant(),
  last_at timestamptz(3) not null default instant()
);

create table brokers (
  name text primary key,
  repository text not null,                   -- first segment of our paths there
  generation bigint not null default 0,
  names_sent text[] not null default '{}',
  baseline text                               -- digest of the accepted baseline in force
);

create table sealings (
  id bigint generated always as identity primary key,
  workload text not null,
  epoch integer not null,
  rotation text not null unique,
  source bigint references sealings,          -- the sealing whose ciphertext it is re-encrypted from; null: from plaintext
  taken boolean not null default false,
  unique (workload, epoch)
);

create table revisions (
  id bigint generated always as identity primary key,
  workload text not null,
  serial integer not null,                    -- of the release in force: the last that amended it
  release text not null,                      -- digest of that document
  serials integer[] not null,                 -- every serial that it has had; the first is in its path
  releases text[] not null,                   -- their documents; the first made it
  sealing bigint not null references sealings,
  rotation text not null unique,              -- the id of its adopt run
  path_number integer not null default 0,
  state text not null default 'accepted' check (state in ('accepted', 'live', 'published', 'serving', 'closing', 'retired')),
  went_live boolean not null default false,
  kbs text[] not null,                        -- where its release's targets fetch
  withdrawn_by text,
  revoked_by text,
  accepted_at timestamptz(3) not null default instant(),
  unique (release, sealing)
);
create index on revisions (workload);

create table runs (
  id text primary key,
  workflow text not null,
  revision bigint references revisions,
  revocation text,                            -- digest of the document
  workload text not null,
  cause text references runs,
  claim bigint not null default 0,
  owner text,
  generations jsonb not null default '{}',
  wake_at timestamptz(3) default instant(),
  waiting_for text,
  about text,
  since timestamptz(3),
  step text,                                  -- the step that it stands at
  next_retry_at timestamptz(3),
  failures integer not null default 0,        -- in a row, for the backoff
  deadline timestamptz(3),
  progress jsonb,                             -- of long work: {doneBytes, totalBytes, since, at}
  created_at timestamptz(3) not null default instant(),
  ended_at timestamptz(3)
);
create index on runs (workload) where ended_at is null;
create unique index on runs (workflow, revision) where ended_at is null;

-- What people stopped with `keyturn hold`.
create table holds (
  id bigint generated always as identity primary key,
  kind text not null check (kind in ('run', 'workload', 'all')),
  subject text not null,                      -- a run, a workload, or * for all
  chain text not null references runs,        -- a run that is over: the chain of its receipts, `hold` and `resume`
  why text not null,
  held_by text not null,
  at timestamptz(3) not null default instant(),
  lifted_at timestamptz(3),
  lifted_by text,
  lifted_why text
);
create unique index on holds (kind, subject) where lifted_at is null;

-- Values that earlier serials of a platform have and its newest has not: kept, and why, or let go.
create table predecessors (
  platform text not null,
  serial integer not null,                    -- of the document that no longer lists it: of a lower one it never comes back
  name text not null,
  value jsonb not null,
  reason text,                                -- why it is kept; null once it was let go
  about text,
  since timestamptz(3) not null default instant(),
  let_go_at timestamptz(3),
  chain text references runs,                 -- a run that is over: its receipt `let-go`
  primary key (platform, serial, name, value)
);

create table receipts (
  id bigint generated always as identity primary key,
  run text not null references runs,
  number integer not null,                    -- in the run's own chain
  step text not null,
  at timestamptz(3) not null,
  body text not null,                         -- RFC 8785
  digest text not null,
  seq bigint unique,                          -- its place in the one log; given by the head-maker
  unique (run, number)
);

create table heads (
  tree_size bigint primary key,
  body text not null,                         -- RFC 8785 of {installation, treeSize, rootHash, at}
  signature text not null,
  at timestamptz(3) not null default instant()
);

create table events (
  id bigint generated always as identity primary key,
  at timestamptz(3) not null default instant(),
  event text not null,
  run text,
  workload text,
  body jsonb not null default '{}'
);

-- Secret rows, never exported.
create table resources (
  path text primary key,
  store text not null,
  key_id text not null,
  context jsonb not null,
  wrapped text not null,
  canary text not null,
  digest text not null,
  signature text not null,
  created_at timestamptz(3) not null default instant()
);

-- Every write to a KBS or key store before it is sent, its answer after.
create table sends (
  id bigint generated always as identity primary key,
  system text not null,
  verb text not null,
  path text,
  generation bigint not null default 0,
  run text,
  rotation text,                              -- key stores: the sealing's
  at timestamptz(3) not null default instant(),
  answered_at timestamptz(3),
  status integer,
  type text,
  detail jsonb not null default '{}'
);
create index on sends (system, verb, path);

-- Grows only.
create table deny_list (
  id bigint generated always as identity primary key,
  kbs text not null,
  path text,                                  -- an exact path; null where the row names something else
  init_data text,
  device text,
  because text not null,                      -- digest of the revocation, or `retired`
  at timestamptz(3) not null default instant()
);
create index on deny_list (kbs, path);

create table proxies (
  id text primary key,
  kbs text not null,
  acknowledged bigint not null default 0,     -- the last deny_list id that it refuses
  stale_seconds integer not null,             -- it refuses everything when it heard nothing for this long
  seen_at timestamptz(3) not null default instant()
);

create table handshakes (
  id bigint generated always as identity primary key,
  kbs text not null,
  proxy text not null,
  at timestamptz(3) not null default instant(),
  address text not null,
  session_digest text not null,
  token_digest text not null,
  token text not null,                        -- the EAR
  tee_key text not null                       -- RFC 7638 thumbprint
);
create index on handshakes (kbs, session_digest);
create index on handshakes (kbs, token_digest);

create table fetches (
  id bigint generated always as identity primary key,
  kbs text not null,
  proxy text not null,
  path text not null,
  at timestamptz(3) not null default instant(),
  address text not null,
  session_digest text,
  token_digest text,
  handshake bigint references handshakes,
  decision text not null check (decision in ('released', 'refused')),
  status integer not null,
  type text,
  generation bigint not null default 0,
  request_id text not null
);
create index on fetches (kbs, path, at);

-- Which TEE keys are our own prober's: gates skip their fetches.
create table probers (
  tee_key text primary key,
  at timestamptz(3) not null default instant()
);

-- Pods as listings showed them: a fetch is told from its address.
create table boots (
  cluster text not null,
  pod_uid text not null,
  container_id text not null,
  pod text not null,
  address text not null,
  started_at timestamptz(3) not null,
  first_seen_at timestamptz(3) not null default instant(),
  last_seen_at timestamptz(3) not null default instant(),
  tee_key text unique,                        -- counted once, for one boot
  primary key (cluster, pod_uid, container_id)
);
create index on boots (address);

-- Clusters that do not answer. An answer takes the row away.
create table outages (
  cluster text primary key,
  since timestamptz(3) not null default instant(),
  reason text not null,                       -- what its last failure said
  about text not null,
  asked_at timestamptz(3) not null default instant()
);

create table schedules (
  name text primary key,
  fired_at timestamptz(3) not null,
  fired_by text not null
);
