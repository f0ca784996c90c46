//! The demo's report on the business and the host.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use demo::mpc::Mpc;
use demo::services::All;
use demo::world::World;
use domain::clock::Clock;
use store::Store;
use store::runs::RunView;

use crate::telemetry::say;

const WALLETS: &str = "wallet-keygen-retry";

/// Printed once a minute of the demo's time.
pub struct Report {
    pub store: Arc<Store>,
    pub world: World,
    pub mpc: Mpc,
    pub services: Arc<All>,
    pub clock: Clock,
    pub clock_file: PathBuf,
}

impl Report {
    pub async fn print(self, minute: f64) {
        let began = self.clock.now();
        let mut all_done = false;
        for at in 0_u32.. {
            if let Err(error) = std::fs::write(&self.clock_file, self.clock.now().to_string()) {
                say(&format!("         the clock could not be saved: {error}"));
            }
            if let Err(error) = self.world.sell(i64::from(at)).await {
                say(&format!("         nothing sold: {error:#}"));
            }
            match self.line().await {
                Ok((text, incomplete)) => {
                    say(&format!("{:>3} min  {text}", self.clock.now().duration_since(began).as_mins()));
                    if incomplete == 0 && !all_done && at > 0 {
                        all_done = true;
                        say(
                            "         every wallet is complete. The host keeps checking every minute; stop it with ctrl-c.",
                        );
                    }
                }
                Err(error) => say(&format!("         no report: {error:#}")),
            }
            tokio::time::sleep(Duration::from_secs_f64(minute)).await;
        }
    }

    async fn line(&self) -> anyhow::Result<(String, i64)> {
        let counts = self.world.counts(self.clock.now().as_millisecond()).await?;
        let (mpc, stock) = (self.mpc.stats(), self.world.stock().await?);
        let run = self.store.runs().list(Some(WALLETS), 1).await?.first().map(RunView::summary);
        let standing: Vec<String> =
            counts.by_status.iter().map(|(status, n)| format!("{n} {status}")).collect();
        let items = self.store.items().counts().await?;
        let items: Vec<String> = items
            .iter()
            .filter(|count| count.job.as_str() == WALLETS)
            .map(|count| format!("{} {}", count.items, count.state))
            .collect();
        let text = format!(
            "wallets {}/{} complete ({}) | items: {} | mpc: {} asked, {} failed, {} hung | stock: {} of {} low, {} batches | ledger: {} | last run: {}",
            counts.complete,
            counts.users,
            if standing.is_empty() { "none left".to_owned() } else { standing.join(", ") },
            items.join(", "),
            mpc.requested,
            mpc.failed,
            mpc.hung,
            stock.low,
            stock.campaigns,
            stock.batches,
            self.services.ledger.applied().len(),
            run.unwrap_or_else(|| "none yet".to_owned()),
        );
        Ok((text, counts.incomplete))
    }
}
