//! Connections to one Postgres. Each one is prepared ([`Session`]) before it is used. One that turns out to be with the wrong
//! server (a former primary, one that shuts down, one that answers nothing any more) is closed, and so are all that were
//! made before that was noticed: whichever server answers at the address now is asked next.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::error::DatabaseError;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{Connection, PgPool, Postgres, Transaction};
use tokio::sync::watch;

use super::pooler;
use super::session::{Refusal, Session};
use crate::config::{STATEMENT_TIME_MAX, WAIT_MAX};
use crate::error::{NoConnection, with_remedy};

/// A connection that hangs says nothing, and Postgres cannot end a statement that it never got: past this, the answer
/// counts as lost. Longer than any statement may take.
const ANSWER_TIME_MAX: Duration = STATEMENT_TIME_MAX.saturating_add(Duration::from_secs(5));
/// How long an idle connection may take to show that it lives.
const PING_TIME_MAX: Duration = Duration::from_secs(2);
/// What is left to other statements when a connection of theirs age hung.
const HUNG_REST: Duration = Duration::from_secs(2);
/// An answer that its reader waited for so long, and then gave up, makes the connection suspect.
const SUSPECT_AFTER: Duration = Duration::from_secs(3);
/// After so long without a connection, one is made beside the pool to learn why: a pool only says that it took too long.
const LOOK_AFTER: Duration = Duration::from_millis(500);
const LOOK_TIME_MAX: Duration = Duration::from_secs(2);
/// Looks of one process have at least this between them.
const LOOK_REST: Duration = Duration::from_secs(2);
/// How long a trouble is told after it was last met.
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
    /// Connections that were made before are closed instead of used.
    since: watch::Sender<Instant>,
    /// When a connection hung last.
    hung: watch::Sender<Instant>,
    /// When a look for a pooler last found none.
    unpooled: Mutex<Option<Instant>>,
    trouble: Mutex<Option<Trouble>>,
    looked: Mutex<Option<Instant>>,
}

#[derive(Debug, Clone)]
struct Trouble {
    refusal: Refusal,
    at: Instant,
}

impl Server {
    pub fn new(
        options: PgConnectOptions,
        session: Session,
        connections_max: u32,
        hangs_matter: bool,
    ) -> Server {
        // A float's shortest form is the default since Postgres 12, and poolers refuse the parameter.
        let options = options.extra_float_digits(None);
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
                Box::pin(async move { state.prepare(conn).await.map_err(|refusal| state.told(refusal)) })
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

    /// Makes a first connection, so that a start can say what is wrong, and looks what is on its other end.
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

    /// Gives a connection its settings.
    pub async fn prepare(&self, conn: &mut PgConnection) -> Result<(), Refusal> {
        self.state.prepare(conn).await
    }

    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    pub async fn acquire(&self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        self.patient(self.pool.acquire()).await
    }

    /// Dropped between BEGIN and its answer, the driver would hand the connection on with the transaction open. So the
    /// begin goes on to its end, whoever stops waiting, and what it opened is then rolled back.
    pub async fn begin(&self, begin: String) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        let server = self.clone();
        let begin = async move { server.patient(server.pool.begin_with(sqlx::AssertSqlSafe(begin))).await };
        let begun = tokio::spawn(begin);
        self.answered(true, async { begun.await.map_err(|e| sqlx::Error::Io(std::io::Error::other(e)))? })
            .await
    }

    /// Bounds the wait for an answer, and looks whether an error says that the server is the wrong one.
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
                late("other connections to this server hung: its answer is not waited for".to_owned())
            }
            () = tokio::time::sleep(ANSWER_TIME_MAX) => {
                self.state.hung();
                late(format!("no answer within {ANSWER_TIME_MAX:?}"))
            }
        };
        std::mem::forget(waiting);
        answer.inspect_err(|error| self.state.note(error, writes))
    }

    /// Resolves when connections that were made before are not to be used any more.
    pub async fn renewed(&self) {
        let mut since = self.state.since.subscribe();
        // It lasts as long as `self`.
        let _ = since.changed().await;
    }

    /// Why no connection could be made lately.
    pub fn trouble(&self) -> Option<String> {
        let trouble = self.state.trouble().clone()?;
        (trouble.at.elapsed() < TROUBLE_TOLD).then(|| trouble.refusal.text().to_owned())
    }

    /// The same, if it lasts until a person changes something.
    pub fn refused(&self) -> Option<String> {
        match self.state.trouble().clone()?.refusal {
            Refusal::Unusable(text) => Some(text),
            Refusal::Passing(_) => None,
        }
    }

    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Waits for a connection. If that takes long, somebody looks why.
    async fn patient<T>(&self, work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
        tokio::pin!(work);
        let done = tokio::select! {
            biased;
            done = &mut work => done,
            () = tokio::time::sleep(LOOK_AFTER) => {
                self.look();
                work.await
            }
        };
        match done {
            Err(sqlx::Error::PoolTimedOut) => Err(self.no_connection()),
            Err(error) if refuses_connections(&error) => {
                self.state.told(Refusal::Passing(with_remedy(&error)));
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

    fn look(&self) {
        let mut looked = self.state.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if self.pool.is_closed() || looked.is_some_and(|looked| looked.elapsed() < LOOK_REST) {
            return;
        }
        *looked = Some(Instant::now());
        let state = self.state.clone();
        tokio::spawn(async move {
            let look = async {
                let mut conn = PgConnection::connect_with(&state.options).await?;
                state.session.check(&mut conn).await?;
                state.session.prepare(&mut conn).await?;
                let _ = conn.close().await;
                Ok(())
            };
            let late = |_| Err(Refusal::Passing(format!("no answer within {LOOK_TIME_MAX:?}")));
            match tokio::time::timeout(LOOK_TIME_MAX, look).await.unwrap_or_else(late) {
                Ok(()) => *state.trouble() = None,
                Err(refusal) => drop(state.told(refusal)),
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

    /// Whether it is with the server itself, and the right one. A pooler is looked for once, and again after a server was
    /// the wrong one.
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

    /// Remembers a refusal, says it in the log once, and makes an error of it.
    fn told(&self, refusal: Refusal) -> sqlx::Error {
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
            // One that a refusal was made of concerns no connection that exists.
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

/// Somebody who waits for an answer, and may stop waiting.
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

/// Whether a server refuses connections: it has no room, does not know the user or the database.
fn refuses_connections(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|e| e.code());
    code.is_some_and(|code| ["53", "28", "3D"].iter().any(|class| code.starts_with(class)))
}

/// Codes of a server that is not, or not any more, the one to ask: connection exceptions, a read-only server for
/// whoever may write, one that shuts down or whose database is gone. The last two are what a pooler answers that lent
/// the session's server process to another client.
pub fn is_wrong_server(error: &dyn DatabaseError, writes: bool) -> bool {
    let Some(code) = error.code() else { return false };
    match &*code {
        "25006" => writes,
        "26000" | "42P05" => true,
        code => code.starts_with("08") || code.starts_with("57P"),
    }
}
