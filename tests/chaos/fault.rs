//! What can go wrong, by the names of the report.

use crate::support::database::Kind;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// kill -9 of one host.
    Kill,
    /// kill -9 of all at once.
    KillAll,
    /// A host that stands still for longer than its leases last, and then goes on as if nothing had been.
    Stop,
    /// The same, with the COMMIT of an attempt under way to the business database, where it arrives after that time.
    LateCommit,
    /// Nothing passes between a host and Postgres for longer than its leases last; then all of it does.
    Freeze,
    /// SIGTERM, and a start.
    Terminate,
    /// kill -9 of one of Postgres's processes: it ends all sessions and recovers from its log.
    RestartPostgres,
    /// Sessions ended by an administrator.
    EndSessions,
    /// The answer to a COMMIT of the host's own database, or of the business database, does not arrive.
    CutStoreCommit,
    CutBusinessCommit,
}

impl Fault {
    /// Those that can happen to hosts on this database.
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
