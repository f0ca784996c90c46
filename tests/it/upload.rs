//! A version that is handed in over the API: every host runs it, those too that have no file of it.

use std::io::Cursor;
use std::net::SocketAddr;

use minisign::KeyPair;
use serde_json::Value;

use crate::support::database::{Databases, Kind};
use crate::support::process::{Process, free_port};
use crate::support::site::{Site, eventually, text};
use crate::support::{http, on_both, plugins};

on_both!(what_is_uploaded_runs_on_all_hosts_and_rubbish_changes_nothing);

const JOB: &str = "[jobs.versioned]\nplugin = \"versioned\"\n";

fn file(name: &str) -> String {
    plugins::file(name).to_str().unwrap().to_owned()
}

/// Waits until this version, by its own name, runs there.
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

async fn what_is_uploaded_runs_on_all_hosts_and_rubbish_changes_nothing(kind: Kind) {
    let databases = Databases::new(kind).await;
    let site = Site::with_store(&databases.store_url, JOB);
    let host = site.serve().await;
    // On SQLite there is one host.
    let other = match kind {
        Kind::Postgres => Some(other_host(&site, &databases).await),
        Kind::Sqlite => None,
    };
    let addresses: Vec<_> =
        [Some(&host), other.as_ref()].into_iter().flatten().map(|one| one.address).collect();

    // Nobody has a file of it, and it is the first that there is.
    let output = site.ask(&["plugins", "upload", &file("versioned-a"), "--name", "versioned"]).await;
    let said = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(said.contains("pinned to ") && said.contains(" by local"), "{said}");
    for address in &addresses {
        until_runs(*address, "a").await;
    }
    assert!(site.ask(&["jobs", "trigger", "versioned"]).await.status.success());
    site.until_items("resolved", 1).await;
    assert_eq!(databases.store_texts("SELECT note FROM item").await, ["a"]);
    let back = site.ask(&["plugins", "rollback", "versioned"]).await;
    assert!(text(&back.stderr).contains("no version that ran before"), "{}", text(&back.stderr));

    // The file's name is the plugin's, unless another is given.
    let named = site.path("versioned.wasm");
    std::fs::copy(plugins::file("versioned-b"), &named).unwrap();
    assert!(site.ask(&["plugins", "upload", "versioned.wasm"]).await.status.success());
    // At once, before any host runs it: the version before is the one that still does.
    let back = site.ask(&["plugins", "rollback", "versioned"]).await;
    assert!(back.status.success(), "{}", text(&back.stderr));
    for address in &addresses {
        until_runs(*address, "a").await;
    }
    assert!(site.ask(&["plugins", "upload", "versioned.wasm"]).await.status.success());
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
    for process in [Some(host), other].into_iter().flatten() {
        process.terminate().await;
    }
}

async fn refused(site: &Site, databases: &Databases) {
    // Hosts tell of what they run in their own time.
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

/// Where only signed plugins run, an uploaded one brings its signature along.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_uploaded_has_to_be_signed_where_files_have_to() {
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
    assert!(of_another.contains("its signature is not of these bytes: sign the file anew"), "{of_another}");
    sign("versioned-a");
    let signed = upload().await;
    assert!(signed.status.success(), "{}", text(&signed.stderr));
    until_runs(site.address, "a").await;
    host.terminate().await;
}
