-- What a revocation named when it was accepted, as far as only its acceptance can tell: later the same question could have another answer.
create table denials (
  revocation text not null,                   -- digest of the document
  revision bigint not null references revisions,
  primary key (revocation, revision)
);
-- What revocations denied, apart from the paths of everything that was ever retired.
create index on deny_list (kbs) where because <> 'retired';
