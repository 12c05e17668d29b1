-- How each person signed what was accepted: with which key, or with which identity. Of what an older version accepted it stays empty.
alter table documents add column signatures jsonb not null default '[]';
