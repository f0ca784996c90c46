//! The faults, by their names in the report.

use crate::support::database::Kind;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// `kill -9` of one host.
    Kill,
    /// `kill -9` of all hosts at once.
    KillAll,
    /// A host is stopped (SIGSTOP) for longer than its leases last, and then continues.
    Stop,
    /// As `Stop`, while an attempt's COMMIT is on its way to the business database, and arrives only later.
    LateCommit,
    /// Nothing passes between a host and Postgres for longer than its leases last; then all of it does.
    Freeze,
    /// SIGTERM and a restart.
    Terminate,
    /// `kill -9` of one of Postgres's processes: the server ends all sessions and recovers from its log.
    RestartPostgres,
    /// An administrator ends sessions.
    EndSessions,
    /// The answer to a COMMIT in the host's own database, or in the business database, does not arrive.
    CutStoreCommit,
    CutBusinessCommit,
}

impl Fault {
    /// The faults that apply to hosts on this database.
    pub fn of(kind: Kind) -> &'static [Fault] {
        use Fault::*;
        match kind {
            Kind::Sqlite => &[Kill, Stop, Terminate],
            Kind::Postgres => &[
                Kill,
                KillAll,
                Stop,
                LateCommit,
                Freeze,
                Terminate,
                RestartPostgres,
                EndSessions,
                CutStoreCommit,
                CutBusinessCommit,
            ],
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Fault::Kill => "kill9",
            Fault::KillAll => "kill9_all",
            Fault::Stop => "sigstop",
            Fault::LateCommit => "late_commit",
            Fault::Freeze => "line_frozen",
            Fault::Terminate => "sigterm",
            Fault::RestartPostgres => "postgres_restart",
            Fault::EndSessions => "backend_terminated",
            Fault::CutStoreCommit => "store_commit_cut",
            Fault::CutBusinessCommit => "business_commit_cut",
        }
    }
}
