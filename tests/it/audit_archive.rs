//! Old audit records move to archives.

use serde_json::{Value, json};
use test_support::on_both;

use crate::support::database::{Databases, Kind};
use crate::support::site::{Site, eventually, text};

on_both! { f5_old_audit_records_move_to_archives_that_can_be_verified }

async fn f5_old_audit_records_move_to_archives_that_can_be_verified(kind: Kind) {
    let databases = Databases::new(kind).await;
    let site = Site::with_store(
        &databases.store_url,
        "audit = { retention = \"1h\", every = \"200ms\", archive_dir = \"archive\" }\n[jobs.hello]\nplugin = \"hello\"\n",
    );
    let host = site.serve().await;
    let ages = [("a", 7_200), ("b", 7_200), ("c", 7_100), ("young", 60)];
    let now = jiff::Timestamp::now().as_millisecond();
    let rows: Vec<String> = ages
        .iter()
        .map(|(id, age)| {
            format!("('{id}', {}, 'ada', 'looked', NULL, '{id}', 'an \"odd\" detail')", now - age * 1_000)
        })
        .collect();
    let insert = "INSERT INTO audit (id, at_ms, actor, action, job, subject, detail) VALUES";
    databases.store(&format!("{insert} {}", rows.join(", "))).await;
    let looked = "SELECT id FROM audit WHERE action = 'looked'";
    let moved = || async { (databases.store_texts(looked).await == ["young"]).then_some(()) };
    eventually("the old records leave the table", moved).await;

    let archive = site.path("archive");
    let run = |command: &str| {
        let output =
            std::process::Command::new("sh").args(["-c", command]).current_dir(&archive).output().unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
        text(&output.stdout)
    };
    assert!(run("sha256sum -c *.sha256").trim().ends_with(".jsonl.gz: OK"));
    let lines = run("gzip -dc *.jsonl.gz");
    let records: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ids: Vec<_> = records.iter().map(|record| record["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["a", "b", "c"]);
    assert_eq!((&records[0]["actor"], &records[0]["detail"]), (&json!("ada"), &json!("an \"odd\" detail")));
    let reported =
        "SELECT COUNT(*) FROM audit WHERE action = 'audit_archived' AND detail LIKE '3 records; sha256 %'";
    assert_eq!(databases.store_number(reported).await, 1);

    // A folder that is not writable loses nothing: records that cannot be archived stay.
    std::fs::remove_dir_all(&archive).unwrap();
    std::fs::write(&archive, "in the way").unwrap();
    databases.store(&format!("{insert} ('d', {}, 'ada', 'looked', NULL, 'd', '')", now - 7_000_000)).await;
    let said = || async { site.log().contains("the audit trail could not be archived").then_some(()) };
    eventually("the failure is reported", said).await;
    assert_eq!(databases.store_texts(&format!("{looked} ORDER BY 1")).await, ["d", "young"]);
    host.terminate().await;
}
