//! Faults of Postgres and its connections: restarts, ended sessions, lost answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::{Connection, PgConnection};
use test_support::postgres_url;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::fault::Fault;
use crate::site::Site;
use crate::support::random::Random;
use crate::support::wait::until;

/// Time between two faults, as connections have to be opened again before the next fault meets any.
const PAUSE: Duration = Duration::from_secs(6);
/// Sessions that are ended one by one, five a second.
const SESSIONS: u32 = 20;
const SESSION_PERIOD: Duration = Duration::from_millis(200);
/// Answers that each host loses in a row, on each of its lines.
const CUTS: u32 = 3;
const CUT_TIME: Duration = Duration::from_secs(5);

pub struct Postgres {
    site: Arc<Site>,
    random: Random,
    fired: BTreeMap<Fault, u64>,
}

impl Postgres {
    pub fn new(site: Arc<Site>, random: Random) -> Postgres {
        Postgres { site, random, fired: BTreeMap::new() }
    }

    /// Causes each kind at least once, then random ones until the deadline.
    pub async fn torment(&mut self, end: Instant) {
        let kinds = [Fault::CutStoreCommit, Fault::EndSessions, Fault::RestartPostgres];
        let mut round = 0;
        while round < kinds.len() || Instant::now() < end {
            // tidy: sleep because faults come at moments that no event announces
            sleep(PAUSE).await;
            // A restart takes longest, so it is one in five.
            let next = [0, 0, 1, 1, 2][self.random.below(5) as usize];
            let fault = kinds[if round < kinds.len() { round } else { next }];
            eprintln!("{}: {}", Timestamp::now(), fault.name());
            match fault {
                Fault::RestartPostgres => self.restart().await,
                Fault::EndSessions => self.end_sessions().await,
                _ => self.cut_commits().await,
            }
            round += 1;
        }
    }

    /// The faults that occurred, and how often.
    pub fn fired(&self) -> BTreeMap<Fault, u64> {
        let wires = || self.site.places.iter().filter_map(|place| place.wire.as_ref());
        let mut fired = self.fired.clone();
        fired.insert(Fault::CutStoreCommit, wires().map(|wire| wire.store.cut()).sum());
        fired.insert(Fault::CutBusinessCommit, wires().map(|wire| wire.business.cut()).sum());
        fired
    }

    fn count(&mut self, fault: Fault) {
        *self.fired.entry(fault).or_default() += 1;
    }

    /// Acts like an immediate stop and a start: when one of its processes is killed, the server ends all
    /// sessions and recovers from its log.
    async fn restart(&mut self) {
        let Some(mut admin) = connect().await else { return };
        let own = "SELECT pg_backend_pid()";
        let own: i32 = sqlx::query_scalar(own).fetch_one(&mut admin).await.unwrap();
        let killed = Command::new("kill").args(["-KILL", &own.to_string()]).status().await.unwrap();
        assert!(killed.success(), "process {own} of Postgres cannot be killed");
        while sqlx::query("SELECT 1").execute(&mut admin).await.is_ok() {}
        until("Postgres is back", async || connect().await.is_some()).await;
        self.count(Fault::RestartPostgres);
    }

    async fn end_sessions(&mut self) {
        let Some(mut admin) = connect().await else { return };
        for _ in 0..SESSIONS {
            let one = "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity
                WHERE application_name LIKE 'tidemill%' ORDER BY random() LIMIT 1) AS one";
            match sqlx::query_scalar::<_, bool>(one).fetch_optional(&mut admin).await {
                Ok(Some(true)) => self.count(Fault::EndSessions),
                Ok(_) => {}
                Err(_) => return,
            }
            // tidy: sleep because sessions are to end one by one
            sleep(SESSION_PERIOD).await;
        }
    }

    async fn cut_commits(&mut self) {
        self.order_cuts(CUTS);
        // tidy: sleep because a host that is down now commits nothing, and its restart is not announced
        sleep(CUT_TIME).await;
        self.order_cuts(0);
    }

    fn order_cuts(&self, count: u32) {
        for wire in self.site.places.iter().filter_map(|place| place.wire.as_ref()) {
            wire.store.cut_commits(count);
            wire.business.cut_commits(count);
        }
    }
}

async fn connect() -> Option<PgConnection> {
    PgConnection::connect(&postgres_url()).await.ok()
}
