-- A rewritten branch is accepted once for each `history` of a trust document: the commit that was named last, once the branch descends from it.
alter table branches add column history text;
