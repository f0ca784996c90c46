-- All rows are copied and verified before this (host/store/src/opening/work_copy).
DROP TABLE work_copy;
DROP TABLE old_attempt;
DROP TABLE old_item;
