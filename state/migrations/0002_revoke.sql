-- One run carries out a revocation.
create unique index on runs (workflow, revocation) where ended_at is null and revocation is not null;
