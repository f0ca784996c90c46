//! Connections to one Postgres. Each connection is prepared ([`Session`]) before it is used. If a connection
//! turns out to lead to the wrong server (a former primary, one that shuts down, one that no longer answers),
//! it is closed, and so are all connections that were made before. New connections go to the server that
//! answers at the address now.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::error::DatabaseError;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{Connection, PgPool, Postgres, Transaction};
use tokio::sync::watch;

use super::session::{Refusal, Session};
use super::{pooler, round_trips};
use crate::config::{STATEMENT_TIME_MAX, WAIT_MAX};
use crate::error::{NoConnection, with_remedy};

/// Maximum wait for an answer; after that it counts as lost. A hung connection reports nothing, and Postgres
/// cannot cancel a statement that it never received. Longer than any statement may take.
const ANSWER_TIME_MAX: Duration = STATEMENT_TIME_MAX.saturating_add(Duration::from_secs(5));
/// How long an idle connection may take to answer a ping.
const PING_TIME_MAX: Duration = Duration::from_secs(2);
/// How long statements on other connections may still wait after one connection hung.
const HUNG_REST: Duration = Duration::from_secs(2);
/// If a caller waited this long for an answer and then gave up, the connection is suspect.
const SUSPECT_AFTER: Duration = Duration::from_secs(3);
/// After this wait for a connection, one is made outside the pool to learn the reason: the pool itself
/// reports only a timeout.
const LOOK_AFTER: Duration = Duration::from_millis(500);
const LOOK_TIME_MAX: Duration = Duration::from_secs(2);
/// Minimum time between two such probes of one process.
const LOOK_REST: Duration = Duration::from_secs(2);
/// How long a trouble is reported after it last occurred.
const TROUBLE_TOLD: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub struct Server {
    pool: PgPool,
    state: Arc<State>,
    hangs_matter: bool,
}

#[derive(Debug)]
struct State {
    options: PgConnectOptions,
    session: Session,
    /// Connections made before this instant are closed instead of used.
    since: watch::Sender<Instant>,
    /// When a connection last hung.
    hung: watch::Sender<Instant>,
    /// When the last check found no pooler.
    unpooled: Mutex<Option<Instant>>,
    trouble: Mutex<Option<Trouble>>,
    looked: Mutex<Option<Instant>>,
}

#[derive(Debug, Clone)]
struct Trouble {
    refusal: Refusal,
    at: Instant,
}

/// Maximum number of prepared statements of a connection: the store has about 250, some with several texts.
const STATEMENTS_MAX: usize = 512;

impl Server {
    pub fn new(
        options: PgConnectOptions,
        session: Session,
        connections_max: u32,
        hangs_matter: bool,
    ) -> Server {
        // The shortest exact form of floats is the default since Postgres 12, and poolers refuse this
        // parameter.
        let options = options.extra_float_digits(None).statement_cache_capacity(STATEMENTS_MAX);
        let now = Instant::now();
        let state = Arc::new(State {
            options: options.clone(),
            session,
            since: watch::Sender::new(now),
            hung: watch::Sender::new(now),
            unpooled: Mutex::default(),
            trouble: Mutex::default(),
            looked: Mutex::default(),
        });
        let (made, used, released) = (state.clone(), state.clone(), state.clone());
        let pool = PgPoolOptions::new()
            .max_connections(connections_max)
            .acquire_timeout(WAIT_MAX)
            .test_before_acquire(false)
            .after_connect(move |conn, _| {
                let state = made.clone();
                Box::pin(
                    async move { state.prepare(conn).await.map_err(|refusal| state.record_refusal(refusal)) },
                )
            })
            .before_acquire(move |conn, about| {
                let state = used.clone();
                Box::pin(async move { state.is_alive(conn, about.age).await })
            })
            .after_release(move |_, about| {
                let good = released.is_new(about.age);
                Box::pin(async move { Ok(good) })
            })
            .connect_lazy_with(options);
        Server { pool, state, hangs_matter }
    }

    /// Makes and checks a first connection, so that a start can report problems.
    pub async fn first(&self) -> Result<PgConnection, Refusal> {
        let connect = PgConnection::connect_with(&self.state.options);
        let away = |what: String| Refusal::Passing(format!("{what}; {CHECK}"));
        let conn = tokio::time::timeout(WAIT_MAX, connect).await;
        let mut conn = match conn.map_err(|_| away(format!("no answer within {WAIT_MAX:?}")))? {
            Ok(conn) => conn,
            Err(error) if is_full(&error) => return Err(error.into()),
            Err(sqlx::Error::Database(error)) => return Err(away(error.message().to_owned())),
            Err(error) => return Err(away(error.to_string())),
        };
        self.state.check(&mut conn).await?;
        Ok(conn)
    }

    /// Applies the session settings to a connection.
    pub async fn prepare(&self, conn: &mut PgConnection) -> Result<(), Refusal> {
        self.state.prepare(conn).await
    }

    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    pub async fn acquire(&self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        self.patient(self.pool.acquire()).await
    }

    /// Begins a transaction. If the future were dropped between BEGIN and its answer, the driver would return
    /// the connection to the pool with an open transaction. So BEGIN runs to its end in a task of its own,
    /// and an unused transaction is rolled back.
    pub async fn begin(&self, begin: String) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        round_trips::count();
        let server = self.clone();
        let begin = async move { server.patient(server.pool.begin_with(sqlx::AssertSqlSafe(begin))).await };
        let begun = tokio::spawn(begin);
        self.answered(true, async { begun.await.map_err(|e| sqlx::Error::Io(std::io::Error::other(e)))? })
            .await
    }

    /// Bounds the wait for an answer, and checks whether an error means that this is the wrong server.
    pub async fn answered<T>(
        &self,
        writes: bool,
        work: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, sqlx::Error> {
        let late = |why: String| Err(sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, why)));
        let waiting = Waiting { state: &self.state, since: Instant::now() };
        let answer = tokio::select! {
            biased;
            answer = work => answer,
            () = self.state.others_hung(), if self.hangs_matter => {
                late("other connections to this server hung, so the host does not wait for its answer".to_owned())
            }
            () = tokio::time::sleep(ANSWER_TIME_MAX) => {
                self.state.hung();
                late(format!("no answer within {ANSWER_TIME_MAX:?}"))
            }
        };
        std::mem::forget(waiting);
        answer.inspect_err(|error| self.state.note(error, writes))
    }

    /// Resolves when the connections made so far must no longer be used.
    pub async fn renewed(&self) {
        let mut since = self.state.since.subscribe();
        // Does not fail: the sender lives as long as `self`.
        let _ = since.changed().await;
    }

    /// When the connections made before were last given up.
    pub fn renewed_at(&self) -> Instant {
        *self.state.since.borrow()
    }

    /// The reason why no connection could be made recently.
    pub fn trouble(&self) -> Option<String> {
        let trouble = self.state.trouble().clone()?;
        (trouble.at.elapsed() < TROUBLE_TOLD).then(|| trouble.refusal.text().to_owned())
    }

    /// Like [`Server::trouble`], but only if it lasts until a person fixes it.
    pub fn refused(&self) -> Option<String> {
        match self.state.trouble().clone()?.refusal {
            Refusal::Unusable(text) => Some(text),
            Refusal::Passing(_) => None,
        }
    }

    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Waits for a connection. If that takes long, a probe finds out why.
    async fn patient<T>(&self, work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
        tokio::pin!(work);
        let done = tokio::select! {
            biased;
            done = &mut work => done,
            () = tokio::time::sleep(LOOK_AFTER) => {
                self.probe();
                work.await
            }
        };
        match done {
            Err(sqlx::Error::PoolTimedOut) => Err(self.no_connection()),
            Err(error) if refuses_connections(&error) => {
                self.state.record_refusal(Refusal::Passing(with_remedy(&error)));
                Err(error)
            }
            done => done,
        }
    }

    fn no_connection(&self) -> sqlx::Error {
        let busy = || {
            let most = self.pool.options().get_max_connections();
            format!("all {most} connections of this host to the server were in use for {WAIT_MAX:?}")
        };
        NoConnection(self.trouble().unwrap_or_else(busy)).into()
    }

    fn probe(&self) {
        let mut looked = self.state.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if self.pool.is_closed() || looked.is_some_and(|looked| looked.elapsed() < LOOK_REST) {
            return;
        }
        *looked = Some(Instant::now());
        let state = self.state.clone();
        tokio::spawn(async move {
            let probe = async {
                let mut conn = PgConnection::connect_with(&state.options).await?;
                state.session.check(&mut conn).await?;
                state.session.prepare(&mut conn).await?;
                let _ = conn.close().await;
                Ok(())
            };
            let late = |_| Err(Refusal::Passing(format!("no answer within {LOOK_TIME_MAX:?}")));
            match tokio::time::timeout(LOOK_TIME_MAX, probe).await.unwrap_or_else(late) {
                Ok(()) => *state.trouble() = None,
                Err(refusal) => drop(state.record_refusal(refusal)),
            }
        });
    }
}

impl State {
    fn trouble(&self) -> MutexGuard<'_, Option<Trouble>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn prepare(&self, conn: &mut PgConnection) -> Result<(), Refusal> {
        self.check(conn).await?;
        self.session.prepare(conn).await?;
        *self.trouble() = None;
        Ok(())
    }

    /// Checks that the connection leads to the right server, without a sharing pooler in between. The pooler
    /// check runs once, and again after a server was the wrong one.
    async fn check(&self, conn: &mut PgConnection) -> Result<(), Refusal> {
        let since = *self.since.borrow();
        let unpooled = *self.unpooled.lock().unwrap_or_else(PoisonError::into_inner);
        if unpooled.is_none_or(|looked| looked < since) {
            let now = Instant::now();
            pooler::check(conn, &self.options).await?;
            *self.unpooled.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        }
        self.session.check(conn).await
    }

    /// Records a refusal, logs it once and converts it to an error.
    fn record_refusal(&self, refusal: Refusal) -> sqlx::Error {
        let text = refusal.text().to_owned();
        let before = self.trouble().replace(Trouble { refusal, at: Instant::now() });
        let is_said = before.is_some_and(|b| b.refusal.text() == text && b.at.elapsed() < TROUBLE_TOLD);
        if !is_said {
            let (host, database) = (self.options.get_host(), self.options.get_database().unwrap_or_default());
            tracing::warn!(host, database, why = text, "no connection to Postgres could be made");
        }
        NoConnection(text).into()
    }

    fn is_new(&self, age: Duration) -> bool {
        age < self.since.borrow().elapsed()
    }

    async fn is_alive(&self, conn: &mut PgConnection, age: Duration) -> Result<bool, sqlx::Error> {
        if !self.is_new(age) {
            return Ok(false);
        }
        round_trips::count();
        match tokio::time::timeout(PING_TIME_MAX, conn.ping()).await {
            Ok(Ok(())) => Ok(true),
            Ok(Err(error)) => {
                self.note(&error, true);
                Ok(false)
            }
            Err(_) => {
                self.hung();
                Err(NoConnection("an idle connection hangs: it is closed".to_owned()).into())
            }
        }
    }

    fn note(&self, error: &sqlx::Error, writes: bool) {
        let is_wrong = match error {
            sqlx::Error::Database(e) => is_wrong_server(e.as_ref(), writes),
            // An error made from a refusal is not about an existing connection.
            sqlx::Error::Io(e) => !e.get_ref().is_some_and(|e| e.is::<NoConnection>()),
            sqlx::Error::Protocol(_) | sqlx::Error::Tls(_) => true,
            _ => false,
        };
        if is_wrong {
            self.since.send_replace(Instant::now());
        }
    }

    fn hung(&self) {
        let now = Instant::now();
        self.since.send_replace(now);
        self.hung.send_replace(now);
    }

    async fn others_hung(&self) {
        let mut hung = self.hung.subscribe();
        if hung.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(HUNG_REST).await;
    }
}

/// A pending wait for an answer. Dropped early if the caller gives up.
struct Waiting<'a> {
    state: &'a State,
    since: Instant,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.since.elapsed() >= SUSPECT_AFTER {
            self.state.since.send_replace(Instant::now());
        }
    }
}

const CHECK: &str = "check that it runs, the address, the user and the password";

fn is_full(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|e| e.code()).is_some_and(|code| code == "53300")
}

/// Whether a server refuses connections: it has no free ones, or does not know the user or the database.
fn refuses_connections(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|e| e.code());
    code.is_some_and(|code| ["53", "28", "3D"].iter().any(|class| code.starts_with(class)))
}

/// Whether an error means that this is not, or no longer, the right server: a connection exception, a
/// read-only server for a caller that may write, or a server that shuts down or whose database is gone. 26000
/// and 42P05 come from a pooler that lent the session's server process to another client.
pub fn is_wrong_server(error: &dyn DatabaseError, writes: bool) -> bool {
    let Some(code) = error.code() else { return false };
    match &*code {
        "25006" => writes,
        "26000" | "42P05" => true,
        code => code.starts_with("08") || code.starts_with("57P"),
    }
}
