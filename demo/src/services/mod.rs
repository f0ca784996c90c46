//! The HTTP services of the business: stock producer, proxy, ledger and MPC, all on one port. The mood of
//! each can be set while it runs: `curl -X PUT -d closes http://…/stock/mood`.

mod door;
mod ledger;
mod mood;
mod proxy;
mod stock;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use self::door::{Door, not_taken};
pub use self::ledger::Ledger;
pub use self::mood::Mood;
pub use self::proxy::Proxy;
pub use self::stock::{Made, Stock};
use crate::mpc::Mpc;

/// Dropping it stops the services.
pub struct Services {
    pub address: SocketAddr,
    pub all: Arc<All>,
    task: JoinHandle<()>,
}

/// The services' names.
pub const NAMES: [&str; 4] = ["stock", "proxy", "ledger", "mpc"];

#[derive(Default)]
pub struct All {
    pub stock: Stock,
    pub proxy: Proxy,
    pub ledger: Ledger,
    mpc: Option<(Mpc, Door)>,
}

impl Services {
    /// On any free port of this machine.
    pub async fn start(mpc: Option<Mpc>) -> Result<Services> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port for the demo's services")?;
        let address = listener.local_addr().context("the services' socket has no address")?;
        let all = Arc::new(All { mpc: mpc.map(|mpc| (mpc, Door::default())), ..All::default() });
        let router = router(all.clone());
        let task = tokio::spawn(async move {
            // The server ends with the task.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Services { address, all, task })
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl All {
    pub fn door(&self, service: &str) -> Option<&Door> {
        match service {
            "stock" => Some(&self.stock.door),
            "proxy" => Some(&self.proxy.door),
            "ledger" => Some(&self.ledger.door),
            "mpc" => self.mpc.as_ref().map(|(_, door)| door),
            _ => None,
        }
    }
}

fn router(all: Arc<All>) -> Router {
    Router::new()
        .route("/{service}", get(standing))
        .route("/{service}/mood", put(set_mood))
        .route("/proxy/exit", get(proxy::exit))
        .route("/stock/replenish", post(stock::replenish))
        .route("/stock/campaigns/{id}/mood", put(stock::set_mood_of))
        .route("/ledger/postings", post(ledger::posting))
        .route("/mpc/keygen", post(keygen))
        .with_state(all)
}

/// The statistics of a service.
async fn standing(State(all): State<Arc<All>>, Path(service): Path<String>) -> Response {
    match all.door(&service) {
        Some(door) => axum::Json(door.standing()).into_response(),
        None => no_service(),
    }
}

async fn set_mood(State(all): State<Arc<All>>, Path(service): Path<String>, word: String) -> Response {
    let Some(door) = all.door(&service) else { return no_service() };
    match word.trim().parse() {
        Ok(mood) => {
            door.set(mood);
            StatusCode::NO_CONTENT.into_response()
        }
        Err(why) => refused(why),
    }
}

/// An event of the host. Any response except 2xx is retried.
async fn keygen(State(all): State<Arc<All>>, event: axum::Json<Value>) -> Response {
    let Some((mpc, door)) = &all.mpc else { return no_service() };
    let call = match door.enter().await {
        Ok(call) if call.mood == Mood::Fails => return refused("no party can be reached".to_owned()),
        Ok(call) => call,
        Err(answer) => return not_taken(answer),
    };
    match mpc.handle(&event.0["payload"].to_string()).await {
        Ok(()) => call.taken(StatusCode::ACCEPTED),
        Err(why) => refused(why),
    }
}

fn no_service() -> Response {
    (StatusCode::NOT_FOUND, "there are: stock, proxy, ledger, mpc").into_response()
}

fn refused(why: String) -> Response {
    (StatusCode::UNPROCESSABLE_ENTITY, why).into_response()
}
