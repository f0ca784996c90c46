-- Which store this is: a data folder remembers the id, so that another database in its place is noticed.
CREATE TABLE store_identity (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    id  TEXT NOT NULL
);
