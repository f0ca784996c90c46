//! Versions that are loaded separately from the active ones.

use domain::clock::Clock;
use domain::outcome::Outcome;
use domain::runner::Call;
use minisign::KeyPair;
use test_support::needs;

use super::{Bench, claimed, guest_path, job, witness};
use crate::versions::signature::{Key, Policy, Signatures};
use crate::{PluginFile, SandboxConfig, Trial};

fn file(guest: &str, plugin: &str) -> PluginFile {
    PluginFile::of(plugin.parse().unwrap(), std::fs::read(guest_path(guest)).unwrap(), None)
}

async fn note(bench: &Bench, trial: &Trial) -> String {
    let job = bench.job("versioned");
    let call = Call { input: claimed(&job, ""), job, scope: bench.scope.clone(), share: None };
    let report = bench.sandbox.replay(trial, call).await;
    assert_eq!(report.digest, Some(trial.digest()));
    match report.result {
        Ok(Outcome::Resolved { note: Some(note) }) => note,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_trial_is_called_and_changes_nothing_else() {
    needs!(Plugins);
    let bench = Bench::with_jobs(&[], vec![job("versioned")]).await;
    assert!(bench.sandbox.running(&"versioned".parse().unwrap()).is_none());
    bench.drop_in("versioned-a", "versioned");
    bench.rescan().await;
    let trial = bench.sandbox.try_out(file("versioned-b", "versioned"), &bench.jobs).await.unwrap();
    let running = bench.sandbox.running(&"versioned".parse().unwrap()).unwrap();
    assert_eq!((note(&bench, &running).await, note(&bench, &trial).await), ("a".to_owned(), "b".to_owned()));
    assert_eq!(trial.describe().version, "b");
    assert_eq!(bench.digest("versioned"), Some(running.digest()));
    assert_eq!(bench.sandbox.versions().len(), 1);
    let report = bench.rescan().await;
    assert_eq!((report.activated, report.retired, report.unchanged), (vec![], vec![], 1));
}

#[tokio::test]
async fn version_that_may_not_run_cannot_be_tried() {
    needs!(Plugins);
    let bench = Bench::with_jobs(&[], vec![job("versioned"), witness()]).await;
    let why = async |file: PluginFile| match bench.sandbox.try_out(file, &bench.jobs).await {
        Ok(trial) => panic!("{:?} was taken", trial.digest()),
        Err(why) => why,
    };
    let rubbish = PluginFile::of("versioned".parse().unwrap(), b"rubbish".to_vec(), None);
    assert!(why(rubbish).await.contains("it is not a WebAssembly component"));
    let large = PluginFile::of("versioned".parse().unwrap(), vec![0; (32 << 20) + 1], None);
    assert_eq!(why(large).await, "it is larger than 33554432 bytes (plugins.component_size)");
    assert!(why(file("wrong-world", "versioned")).await.contains("it does not export"));
    assert!(why(file("loop-in-describe", "versioned")).await.contains("cpu-limit"));
    let ungranted = why(file("witness", "versioned")).await;
    assert!(
        ungranted.contains("is not granted") && ungranted.contains("[jobs.versioned.grants]"),
        "{ungranted}"
    );
    // The same bytes as another plugin, whose job has all the grants.
    let trial = bench.sandbox.try_out(file("witness", "witness"), &bench.jobs).await.unwrap();
    let (name, statement) = trial.describe().statements.iter().next().unwrap();
    assert_eq!((trial.name_of(statement), name.as_str()), (Some("insert"), "insert"));
    assert_eq!(bench.sandbox.versions(), []);
}

#[tokio::test]
async fn trial_needs_a_signature_where_one_is_required() {
    needs!(Plugins);
    let pair = KeyPair::generate_unencrypted_keypair().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut config = SandboxConfig::new(dir.path(), Clock::steady());
    let keys = vec![Key::parse(&pair.pk.to_base64()).unwrap()];
    config.signatures = Signatures { policy: Policy::Required, keys };
    let bench = Bench::of(dir, config, &[], vec![job("versioned")]).await;
    let unsigned = file("versioned-a", "versioned");
    let tried = bench.sandbox.try_out(unsigned.clone(), &bench.jobs).await;
    assert!(tried.err().unwrap().starts_with("it is not signed: "));
    let bytes = std::io::Cursor::new(&unsigned.bytes);
    let signature = minisign::sign(Some(&pair.pk), &pair.sk, bytes, None, None).unwrap().to_string();
    let signed = PluginFile { signature: Some(signature), ..unsigned };
    let trial = bench.sandbox.try_out(signed, &bench.jobs).await.unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(note(&bench, &trial).await, "a");
}
