//! Statements on jobs and ticks.

use crate::db::sql::Sql;

pub const JOB_PUT: Sql = Sql::same(
    "INSERT INTO job (name, plugin, schedule, created_at_ms, ticked_at_ms) VALUES (:job, :plugin, :schedule, :now, :now)
    ON CONFLICT (name) DO UPDATE SET plugin = excluded.plugin, schedule = excluded.schedule,
        ticked_at_ms = CASE WHEN job.schedule = excluded.schedule THEN job.ticked_at_ms ELSE excluded.ticked_at_ms END",
);
/// All jobs that any host was ever configured with.
pub const JOB_NAMES: Sql = Sql::same("SELECT name FROM job ORDER BY name");
pub const JOB_TICKED_AT: Sql = Sql::same("SELECT ticked_at_ms FROM job WHERE name = :job");
pub const JOBS_TICKED_AT: Sql = Sql::same("SELECT name, ticked_at_ms FROM job");
pub const JOB_SET_TICKED: Sql =
    Sql::same("UPDATE job SET ticked_at_ms = :at WHERE name = :job AND ticked_at_ms < :at");

/// Fires once across all hosts: the host that inserts the row decides the tick's fate. An instant that a
/// clock ahead of time decided too early, and that did not run, is decided again.
pub const TICK_ADD: Sql = Sql::same(
    "INSERT INTO tick (job, at_ms, fate, run_id, decided_at_ms) VALUES (:job, :at, :fate, :run, :now)
    ON CONFLICT (job, at_ms) DO UPDATE SET fate = excluded.fate, run_id = excluded.run_id,
        decided_at_ms = excluded.decided_at_ms
    WHERE tick.run_id IS NULL AND tick.decided_at_ms < tick.at_ms",
);
pub const TICKS_LIST: Sql = Sql::same("SELECT * FROM tick WHERE job = :job ORDER BY at_ms DESC LIMIT :limit");
/// When the job last ran, was last paused while due, or was registered. The newest good run is found from the newest
/// run on; a maximum would read all runs.
pub const JOB_HEARTBEATS: Sql = Sql::same(
    "SELECT name, CAST(COALESCE((SELECT MAX(beats.at_ms) FROM (
            SELECT at_ms FROM (SELECT discovered_at_ms AS at_ms FROM run
                WHERE run.job = job.name AND run.state <> 'failed' AND discovered_at_ms IS NOT NULL
                ORDER BY created_at_ms DESC LIMIT 1) AS good
            UNION ALL SELECT MAX(decided_at_ms) FROM tick WHERE tick.job = job.name AND tick.fate = 'paused'
        ) AS beats), job.created_at_ms) AS BIGINT) AS at_ms
    FROM job WHERE CAST(:job AS TEXT) IS NULL OR name = :job",
);

/// Instants that wait for the open run to end; the newest of them starts a run.
pub const TICK_BUFFERED: Sql =
    Sql::same("SELECT at_ms FROM tick WHERE job = :job AND fate = 'buffered' ORDER BY at_ms DESC LIMIT 1");
pub const TICK_START: Sql = Sql::same(
    "UPDATE tick SET fate = 'ran', run_id = :run WHERE job = :job AND at_ms = :at AND fate = 'buffered'",
);
/// A newer instant is buffered instead.
pub const TICKS_REPLACED: Sql =
    Sql::same("UPDATE tick SET fate = 'overlap' WHERE job = :job AND at_ms < :at AND fate = 'buffered'");

pub const EDITS_LIST: Sql = Sql::same("SELECT * FROM job_edit ORDER BY job, edit_key");
pub const EDIT_PUT: Sql = Sql::same(
    "INSERT INTO job_edit (job, edit_key, value, since_ms, by_whom) VALUES (:job, :key, :value, :now, :by)
    ON CONFLICT (job, edit_key) DO UPDATE SET value = excluded.value, since_ms = excluded.since_ms, by_whom = excluded.by_whom",
);
pub const EDIT_REMOVE: Sql = Sql::same("DELETE FROM job_edit WHERE job = :job AND edit_key = :key");

pub const PAUSES_LIST: Sql = Sql::same("SELECT * FROM pause ORDER BY job");
pub const PAUSE_ADD: Sql = Sql::same(
    "INSERT INTO pause (job, since_ms, by_whom) VALUES (:job, :now, :by) ON CONFLICT (job) DO NOTHING",
);
pub const PAUSE_REMOVE: Sql = Sql::same("DELETE FROM pause WHERE job = :job");
