-- What somebody set over the API: it wins over the file until it is cleared. The value is JSON.
CREATE TABLE job_edit (
    job       TEXT   NOT NULL,
    edit_key  TEXT   NOT NULL,
    value     TEXT   NOT NULL,
    since_ms  BIGINT NOT NULL,
    by_whom   TEXT   NOT NULL,
    PRIMARY KEY (job, edit_key)
);
