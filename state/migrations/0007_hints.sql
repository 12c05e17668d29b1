-- When the webhook came after which a document or a signature was read: what the time line of a revocation counts from. null: a poll found it, or somebody brought it as a file.
alter table documents add column hinted_at timestamptz(3);
alter table bundles add column hinted_at timestamptz(3);
-- What carries a revocation out, or lifts it: asked for every page and status, beside many times as many rotations.
create index on runs (revocation) where revocation is not null;
