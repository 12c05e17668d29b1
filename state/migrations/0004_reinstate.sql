-- A revocation that was lifted counts for nothing any more; the path that it refused stays refused.
alter table documents add column lifted_by text; -- a revocation's: digest of the reinstatement; null: in force
alter table runs add column reinstatement text;  -- digest of the document that a reinstate run carries out

-- Nothing is ever taken off the list: a lift is a row of its own, which names the entry that refuses nobody from then on.
alter table deny_list add column lifts bigint references deny_list check (lifts is null or (path is null and init_data is null and device is null));
create unique index on deny_list (lifts) where lifts is not null;
