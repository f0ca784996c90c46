//! Notifications that there may be work: at once in this process, and on Postgres to other hosts with LISTEN
//! and NOTIFY. They are best effort: a host that misses one finds the work at its next poll.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgListener;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::db::{Db, Server};
use crate::tasks::Tasks;

const CHANNEL: &str = "tidemill_work";
/// Postgres sends notifications one after another for all databases of a server, so this process sends at
/// most one in this time.
const TELL_REST: Duration = Duration::from_millis(50);
/// Wait before connecting again to an unreachable database.
const AWAY_REST: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Wake {
    here: Arc<Notify>,
    elsewhere: Arc<Notify>,
    /// Aborted when dropped.
    tasks: tokio::sync::Mutex<JoinSet<()>>,
}

impl Wake {
    pub fn start(db: &Db, supervised: &Tasks) -> Wake {
        let (here, elsewhere) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let mut tasks = JoinSet::new();
        if let Db::Postgres(server) = db {
            let own = Uuid::new_v4().to_string();
            // Both end with the set, never on their own.
            let never = CancellationToken::new();
            let (tells, teller, elsewhere) = (server.clone(), own.clone(), elsewhere.clone());
            let tell = move || tell(tells.clone(), teller.clone(), elsewhere.clone());
            tasks.spawn(supervised.clone().supervise("wake-tell", never.clone(), tell));
            let (server, here) = (server.clone(), here.clone());
            let listen = move || listen(server.clone(), own.clone(), here.clone());
            tasks.spawn(supervised.clone().supervise("wake-listen", never, listen));
        }
        Wake { here, elsewhere, tasks: tasks.into() }
    }

    pub fn wake(&self) {
        self.here.notify_waiters();
        self.elsewhere.notify_one();
    }

    pub fn woken(&self) -> OwnedNotified {
        self.here.clone().notified_owned()
    }

    /// Returns its connections to the pool.
    pub async fn stop(&self) {
        self.tasks.lock().await.shutdown().await;
    }
}

async fn tell(server: Server, own: String, elsewhere: Arc<Notify>) {
    loop {
        elsewhere.notified().await;
        // Other hosts find work at their next poll if the notification fails.
        let notify = async {
            let mut conn = server.acquire().await?;
            let told = sqlx::query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(&own).execute(&mut *conn);
            server.answered(true, told).await
        };
        let _ = notify.await;
        tokio::time::sleep(TELL_REST).await;
    }
}

async fn listen(server: Server, own: String, here: Arc<Notify>) {
    loop {
        // While disconnected, this host finds work of other hosts by polling. The outage is reported
        // elsewhere.
        tokio::select! {
            _lost = hear(&server, &own, &here) => {}
            // A server that is no longer the right one may keep the connection open without sending anything.
            () = server.renewed() => {}
        }
        tokio::time::sleep(AWAY_REST).await;
    }
}

/// Listens until the connection is lost.
async fn hear(server: &Server, own: &str, here: &Notify) -> sqlx::Error {
    let mut listener = match PgListener::connect_with(server.pool()).await {
        Ok(listener) => listener,
        Err(error) => return error,
    };
    if let Err(error) = listener.listen(CHANNEL).await {
        return error;
    }
    loop {
        match listener.try_recv().await {
            Ok(Some(notice)) if notice.payload() == own => {}
            // Without a notification, one may have been missed.
            Ok(_) => here.notify_waiters(),
            Err(error) => return error,
        }
    }
}
