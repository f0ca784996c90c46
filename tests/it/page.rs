//! The page's buttons, with requests as a browser sends them.

use domain::item::State;
use test_support::on_both;

use crate::support::database::Kind;
use crate::support::http;
use crate::support::jobs::host_of;

on_both! { f10_the_page_retries_acknowledges_and_runs }

/// Each button works, and is in the audit trail.
async fn f10_the_page_retries_acknowledges_and_runs(kind: Kind) {
    let (databases, mut host) = host_of(kind, &["finalize-retry", "finalize-recover", "ledger-outbox"]).await;
    let posting = "INSERT INTO ledger_outbox (posting_key, order_id, account, amount_minor, currency, status,
        created_at_ms) VALUES ('a/b?c', 1, 'acme', -1, 'EUR', 'pending', 1);";
    databases.business(posting).await;
    let address = host.app.address;
    let page = async || http::get(address, "/").await.body;
    let options = page().await;
    for job in ["finalize-recover", "finalize-retry", "ledger-outbox"] {
        assert!(options.contains(&format!("<option>{job}</option>")), "{options}");
    }
    assert_eq!(http::post(address, "/api/v1/jobs/ledger-outbox", "{}").await.status, 201);
    host.settle().await;
    assert_eq!(host.item("ledger-outbox", "a/b?c").await.state, State::ManualRequired);

    let press = async |id: &str| {
        let page = page().await;
        let (before, _) = page
            .split_once(&format!("id=\"{id}"))
            .map_or(("", ""), |(_, after)| after.split_once("</button>").unwrap_or_default());
        let path = before.split("data-post=\"").nth(1).and_then(|rest| rest.split('"').next());
        let path = path.unwrap_or_else(|| panic!("no button {id} in {page}"));
        http::post(address, path, "{}").await
    };
    assert_eq!(press("alert-").await.status, 200);
    assert!(host.app.store.alerts().list(true, 9).await.unwrap().is_empty());
    databases.business("UPDATE ledger_outbox SET amount_minor = 1;").await;
    assert_eq!(press("retry-").await.status, 200);
    host.settle().await;
    assert_eq!(host.item("ledger-outbox", "a/b?c").await.state, State::Resolved);
    let recovered = page().await;
    assert!(recovered.contains("data-post=\"/api/v1/recover\""), "{recovered}");
    let actions = ["alert_acknowledged", "retried_manually"];
    for action in actions {
        let found = format!("SELECT COUNT(*) FROM audit WHERE action = '{action}' AND actor = 'local'");
        assert_eq!(databases.store_number(&found).await, 1, "{action}");
    }
}
