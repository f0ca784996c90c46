//! A version that is uploaded over the API: every host runs it, including those without its file.

use std::io::Cursor;
use std::net::SocketAddr;

use minisign::KeyPair;
use serde_json::Value;
use test_support::{needs, on_both};

use crate::support::database::{Databases, Kind};
use crate::support::process::{Process, free_port};
use crate::support::site::{Site, eventually, text};
use crate::support::{http, plugins};

on_both!(
    uploaded_version_runs_on_all_hosts_and_invalid_upload_changes_nothing,
    an_upload_passes_trial_and_approval_and_survives_restarts,
);

const JOB: &str = "[jobs.versioned]\nplugin = \"versioned\"\n";

fn file(name: &str) -> String {
    plugins::file(name).to_str().unwrap().to_owned()
}

/// Waits until the version with this name is active on this host.
async fn until_runs(address: SocketAddr, version: &str) {
    let runs = |one: &Value| one["state"] == "active" && one["version"] == version;
    let look = || async {
        let plugins = http::get(address, "/api/v1/plugins").await.json();
        plugins["plugins"].as_array().unwrap().iter().any(runs).then_some(())
    };
    eventually(version, look).await;
}

/// A second host on the same store, with an empty plugins folder.
async fn other_host(site: &Site, databases: &Databases) -> Process {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let text = format!(
        "server.listen = \"{address}\"\nhost.data_dir = \"other\"\nplugins.dir = \"empty\"\nstore.url = \"{}\"\n{JOB}",
        databases.store_url
    );
    std::fs::create_dir(site.path("empty")).unwrap();
    std::fs::write(site.path("other.toml"), text).unwrap();
    let mut other = Process::spawn(&site.path("other.toml"), address);
    other.ready().await;
    other
}

async fn uploaded_version_runs_on_all_hosts_and_invalid_upload_changes_nothing(kind: Kind) {
    let databases = Databases::new(kind).await;
    let site = Site::with_store(&databases.store_url, JOB);
    let host = site.serve().await;
    // On SQLite there is only one host.
    let other = match kind {
        Kind::Postgres => Some(other_host(&site, &databases).await),
        Kind::Sqlite => None,
    };
    let addresses: Vec<_> =
        [Some(&host), other.as_ref()].into_iter().flatten().map(|one| one.address).collect();

    // No host has its file, and it is the first version of the plugin.
    let output = site.ask(&["plugins", "upload", &file("versioned-a"), "--name", "versioned"]).await;
    let said = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(said.contains("takes over on all hosts now") && !said.contains("pinned to "), "{said}");
    for address in &addresses {
        until_runs(*address, "a").await;
    }
    assert!(site.ask(&["jobs", "trigger", "versioned"]).await.status.success());
    site.until_items("resolved", 1).await;
    assert_eq!(databases.store_texts("SELECT note FROM item").await, ["a"]);
    let back = site.ask(&["plugins", "rollback", "versioned"]).await;
    assert!(text(&back.stderr).contains("no version that ran before"), "{}", text(&back.stderr));

    // The file's name is the plugin's name, unless another is given.
    let named = site.path("versioned.wasm");
    std::fs::copy(plugins::file("versioned-b"), &named).unwrap();
    assert!(site.ask(&["plugins", "upload", "versioned.wasm"]).await.status.success());
    // At once, before any host activates it: the previous version is still active.
    let back = site.ask(&["plugins", "rollback", "versioned"]).await;
    assert!(back.status.success(), "{}", text(&back.stderr));
    for address in &addresses {
        until_runs(*address, "a").await;
    }
    // A pin has priority over new versions.
    let kept = text(&site.ask(&["plugins", "upload", "versioned.wasm"]).await.stdout);
    assert!(kept.contains("is kept and does not run, because plugin versioned stays pinned to"), "{kept}");
    assert!(site.ask(&["plugins", "unpin", "versioned"]).await.status.success());
    for address in &addresses {
        until_runs(*address, "b").await;
    }
    refused(&site, &databases).await;
    for address in &addresses {
        until_runs(*address, "b").await;
    }
    assert!(site.ask(&["plugins", "rollback", "versioned"]).await.status.success());
    for address in &addresses {
        until_runs(*address, "a").await;
    }
    let trail = "SELECT actor || ' ' || action FROM audit WHERE action = 'plugin_uploaded'";
    assert_eq!(databases.store_texts(trail).await, ["local plugin_uploaded"; 3]);
    let pins = "SELECT COUNT(*) FROM audit WHERE action = 'plugin_pinned'";
    assert_eq!(databases.store_number(pins).await, 2, "by the two rollbacks");
    for process in [Some(host), other].into_iter().flatten() {
        process.terminate().await;
    }
}

const RULES: &str =
    "approval = \"wider\"\ncanary = { share = 0.5, promote_attempts = 1000, promote_after = \"1h\" }\n";

/// Waits until the plugin's candidate is at this stage, and returns its digest.
async fn until_stage(address: SocketAddr, stage: &str) -> String {
    let look = || async {
        let plugin = http::get(address, "/api/v1/plugins/versioned").await.json();
        let candidate = &plugin["release"]["candidate"];
        (candidate["stage"] == stage).then(|| candidate["digest"].as_str().unwrap().to_owned())
    };
    eventually(stage, look).await
}

async fn an_upload_passes_trial_and_approval_and_survives_restarts(kind: Kind) {
    let databases = Databases::new(kind).await;
    databases
        .business("CREATE TABLE witness (item_key TEXT, idempotency_key TEXT, attempt BIGINT, epoch BIGINT)")
        .await;
    let jobs = format!(
        "[plugins]\n{RULES}[datasources.witness]\nurl = \"{}\"\n{JOB}\
        [jobs.versioned.grants]\nsql = {{ witness = \"read-write\" }}\nevents = [\"witness\"]\nkeyvalue = true\n",
        databases.business_url
    );
    let site = Site::with_store(&databases.store_url, &jobs);
    site.install("versioned-a", "versioned");
    let host = site.serve().await;
    until_runs(site.address, "a").await;

    let upload = async |name: &str| {
        let output = site.ask(&["plugins", "upload", &file(name), "--name", "versioned"]).await;
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let said = upload("versioned-b").await;
    assert!(said.contains("of plugin versioned is on trial"), "{said}");
    let digest = until_stage(site.address, "canary").await;
    until_runs(site.address, "a").await;
    // The host restarts with the old file in its folder.
    host.kill9().await;
    let host = site.serve().await;
    assert_eq!(until_stage(site.address, "canary").await, digest);
    until_runs(site.address, "a").await;
    assert!(site.ask(&["plugins", "promote", "versioned", &digest[..12]]).await.status.success());
    until_runs(site.address, "b").await;
    host.kill9().await;
    let host = site.serve().await;
    until_runs(site.address, "b").await;

    let said = upload("witness").await;
    assert!(said.contains("waits for approval: it asks for more"), "{said}");
    let digest = until_stage(site.address, "waiting").await;
    let page = http::get(site.address, "/").await.body;
    let button = format!(
        r#"data-post="/api/v1/plugins/versioned/approve" data-body="{{&quot;digest&quot;: &quot;{digest}&quot;}}""#
    );
    assert!(page.contains(&button), "{page}");
    assert!(site.ask(&["plugins", "approve", "versioned", &digest[..12]]).await.status.success());
    assert_eq!(until_stage(site.address, "canary").await, digest);
    until_runs(site.address, "b").await;

    let quarantine = ["plugins", "quarantine", "versioned", &digest[..12], "--reason", "no"];
    assert!(site.ask(&quarantine).await.status.success());
    let output = site.ask(&["plugins", "upload", &file("witness"), "--name", "versioned"]).await;
    assert!(text(&output.stderr).contains("in quarantine since"), "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(1));
    order_of_the_trail(&databases).await;
    host.terminate().await;
}

/// A host activates a version after the decision about it, and the audit record names the decision.
async fn order_of_the_trail(databases: &Databases) {
    let trail = "SELECT actor || ' ' || action FROM audit WHERE subject = 'versioned' AND action IN
        ('plugin_uploaded', 'plugin_canary_began', 'plugin_promoted', 'plugin_waits', 'plugin_approved',
            'plugin_quarantined', 'plugin_pinned') ORDER BY at_ms, id";
    let expected = [
        "local plugin_uploaded",
        "local plugin_canary_began",
        "local plugin_promoted",
        "local plugin_uploaded",
        "local plugin_waits",
        "local plugin_approved",
        "local plugin_quarantined",
    ];
    assert_eq!(databases.store_texts(trail).await, expected);
    let active = "audit AS ran WHERE ran.action = 'plugin_active' AND ran.detail LIKE '%: promoted by local'";
    assert!(databases.store_number(&format!("SELECT COUNT(*) FROM {active}")).await > 0);
    let before = format!(
        "SELECT COUNT(*) FROM {active} AND ran.at_ms <
            (SELECT MIN(at_ms) FROM audit WHERE action = 'plugin_promoted')"
    );
    assert_eq!(databases.store_number(&before).await, 0, "it ran after it was promoted");
}

async fn refused(site: &Site, databases: &Databases) {
    // Hosts report their active versions at their own pace, so their audit records are left out.
    let known =
        "SELECT plugin || digest FROM plugin_version UNION ALL SELECT plugin || digest FROM plugin_file
        UNION ALL SELECT plugin || digest FROM plugin_pin
        UNION ALL SELECT actor || action || detail FROM audit WHERE actor NOT LIKE 'host:%' ORDER BY 1";
    let before = databases.store_texts(known).await;
    std::fs::write(site.path("rubbish.wasm"), "no component").unwrap();
    let rubbish = site.path("rubbish.wasm").to_str().unwrap().to_owned();
    let refusals = [
        (
            rubbish.as_str(),
            "versioned",
            1,
            "it is not a WebAssembly component: its first 8 bytes are wrong; nothing has changed",
        ),
        (&file("over-asking"), "versioned", 1, "datasource \"secrets-db\" is not granted"),
        (
            &file("versioned-a"),
            "Not A Name",
            1,
            "\"Not A Name\" cannot name a plugin: 'N' is not allowed in a name",
        ),
        ("none.wasm", "versioned", 2, "cannot read none.wasm: "),
    ];
    for (file, name, code, among) in refusals {
        let output = site.ask(&["plugins", "upload", file, "--name", name]).await;
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(code), String::new()), "{among}");
        assert!(text(&output.stderr).contains(among), "{among}: {}", text(&output.stderr));
    }
    assert_eq!(databases.store_texts(known).await, before);
}

/// If signatures are required, an upload includes its signature.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upload_needs_a_signature_where_files_need_one() {
    needs!(Product);
    let pair = KeyPair::generate_unencrypted_keypair().unwrap();
    let key = pair.pk.to_base64();
    let site = Site::new(&format!("plugins.signatures = \"required\"\nplugins.keys = [\"{key}\"]\n{JOB}"));
    let host = site.serve().await;
    let sign = |name: &str| {
        let bytes = Cursor::new(std::fs::read(plugins::file(name)).unwrap());
        let signature = minisign::sign(Some(&pair.pk), &pair.sk, bytes, None, None).unwrap();
        std::fs::write(site.path("versioned.wasm.minisig"), signature.to_string()).unwrap();
    };
    let upload = async || site.ask(&["plugins", "upload", "versioned.wasm"]).await;
    std::fs::copy(plugins::file("versioned-a"), site.path("versioned.wasm")).unwrap();
    let unsigned = text(&upload().await.stderr);
    assert!(unsigned.contains("it is not signed: "), "{unsigned}");
    sign("versioned-b");
    let of_another = text(&upload().await.stderr);
    assert!(of_another.contains("its signature is not of these bytes: sign the file again"), "{of_another}");
    sign("versioned-a");
    let signed = upload().await;
    assert!(signed.status.success(), "{}", text(&signed.stderr));
    until_runs(site.address, "a").await;
    host.terminate().await;
}
