//! Statements on the audit trail.

use crate::db::sql::Sql;

pub const AUDIT_ADD: Sql = Sql::same(
    "INSERT INTO audit (id, at_ms, actor, action, job, subject, detail)
    SELECT id, at_ms, actor, action, job, subject, detail
    FROM @added(id text, at_ms bigint, actor text, action text, job text, subject text, detail text)",
);

pub const AUDIT_LIST: Sql = Sql::same("SELECT * FROM audit ORDER BY at_ms DESC, id DESC LIMIT :limit");

pub const AUDIT_OLD_LAST: Sql =
    Sql::same("SELECT at_ms FROM audit WHERE at_ms < :before ORDER BY at_ms LIMIT 1 OFFSET :from");

pub const AUDIT_OLD: Sql = Sql::same("SELECT * FROM audit WHERE at_ms < :before ORDER BY at_ms, id");

pub const AUDIT_REMOVE: Sql = Sql::same("DELETE FROM audit WHERE at_ms < :before");

pub const ARCHIVE_ADD: Sql = Sql::same(
    "INSERT INTO audit_archive (file, until_ms, records, sha256, archived_at_ms) VALUES (:file, :until, :records, :sha256, :now)",
);
