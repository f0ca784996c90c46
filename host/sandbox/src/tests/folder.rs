//! Reading the plugins folder while links in it are being replaced.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use domain::clock::Clock;
use domain::plugin::VersionState;
use test_support::needs;

use super::{Bench, guest_path, job};
use crate::SandboxConfig;
use crate::versions::folder::{Content, Folder, PluginFile};

const READS: usize = 1_000;
/// If both targets of the link are not seen within this many reads, the test is broken.
const READS_MAX: usize = 1_000_000;

/// The results of reads, with their number.
type Seen = BTreeMap<Result<Vec<u8>, String>, usize>;

fn whole(read: Content) -> Vec<u8> {
    let Content::Whole(file) = read else { panic!("it is not so large") };
    file.bytes
}

/// Reads while a link is repeatedly replaced by rename, until both targets were seen, regardless of how the
/// two threads are scheduled.
fn read_while_links_turn(plugins: &Path, link: &Path, targets: [&Path; 2]) -> Seen {
    let done = AtomicBool::new(false);
    let (folder, plugin) = (Folder::open(plugins).unwrap(), "turning".parse().unwrap());
    let mut seen = BTreeMap::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for target in targets.iter().cycle() {
                let draft = plugins.join(".draft");
                symlink(target, &draft).unwrap();
                fs::rename(&draft, link).unwrap();
                if done.load(Ordering::Acquire) {
                    break;
                }
            }
        });
        for reads in 1..READS_MAX {
            let read = folder.read(&plugin, 1_000, 1_000).map(whole);
            *seen.entry(read).or_insert(0) += 1;
            if reads >= READS && seen.len() >= targets.len() {
                break;
            }
        }
        done.store(true, Ordering::Release);
    });
    seen
}

/// All content came from inside, and both targets of the link were seen.
fn check(seen: &Seen) {
    let refused = "it is a link that leaves the plugins folder (links inside of it have to be relative)";
    let expected = [Ok(b"inside".to_vec()), Err(refused.to_owned())];
    assert_eq!(seen.keys().collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>(), "{seen:?}");
}

#[test]
fn swapped_link_opens_no_file_outside() {
    let (plugins, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let secret = outside.path().join("turning.wasm");
    fs::write(&secret, "outside").unwrap();
    fs::write(plugins.path().join("..real"), "inside").unwrap();
    let link = plugins.path().join("turning.wasm");
    symlink("..real", &link).unwrap();
    check(&read_while_links_turn(plugins.path(), &link, [Path::new("..real"), &secret]));
}

#[test]
fn swapped_parent_folder_opens_no_file_outside() {
    let parent = tempfile::tempdir().unwrap();
    let plugins = parent.path().join("plugins");
    for (folder, text) in [("outside", "outside"), ("plugins/..v1", "inside")] {
        fs::create_dir_all(parent.path().join(folder)).unwrap();
        fs::write(parent.path().join(folder).join("turning.wasm"), text).unwrap();
    }
    symlink("..data/turning.wasm", plugins.join("turning.wasm")).unwrap();
    let link = plugins.join("..data");
    symlink("..v1", &link).unwrap();
    check(&read_while_links_turn(&plugins, &link, [Path::new("..v1"), Path::new("../outside")]));
}

#[tokio::test]
async fn special_files_are_not_waited_for() {
    needs!(Plugins);
    let bench = Bench::with(&["noop"]).await;
    let dir = bench.dir.path().to_owned();
    assert!(Command::new("mkfifo").arg(dir.join("pipe.wasm")).status().unwrap().success());
    let _socket = UnixListener::bind(dir.join("socket.wasm")).unwrap();
    symlink("/dev/zero", dir.join("device.wasm")).unwrap();
    symlink("/proc/self/fd/0", dir.join("magic.wasm")).unwrap();
    symlink("loop.wasm", dir.join("loop.wasm")).unwrap();
    symlink("..", dir.join("up.wasm")).unwrap();
    let report = bench.rescan().await;
    let skipped = report.trouble.skipped.iter().map(|s| (s.file.as_str(), &s.reason[..14]));
    let expected = [
        ("device.wasm", "it is a link t"),
        ("loop.wasm", "it is a link t"),
        ("magic.wasm", "it is a link t"),
        ("pipe.wasm", "it is not a re"),
        ("socket.wasm", "it is not a re"),
        ("up.wasm", "it is a link t"),
    ];
    assert_eq!(skipped.collect::<Vec<_>>(), expected);
    bench.still_works().await;
}

#[tokio::test]
async fn world_writable_folder_is_reported_and_read() {
    needs!(Plugins);
    let bench = Bench::with_jobs(&["noop"], vec![job("noop")]).await;
    assert_eq!(bench.sandbox.trouble().warning, None);
    let dir = bench.dir.path();
    fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).unwrap();
    let warning = bench.rescan().await.trouble.warning.unwrap();
    assert_eq!(
        warning,
        format!(
            "every user of this machine may put a plugin into {0}: remove that permission (chmod o-w {0})",
            dir.display()
        )
    );
    bench.still_works().await;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(bench.rescan().await.trouble.warning, None);
}

#[tokio::test]
async fn a_file_above_the_limit_is_rejected_with_the_key_that_raises_it() {
    needs!(Plugins);
    let mut config = SandboxConfig::new("", Clock::steady());
    let noop = fs::read(guest_path("noop")).unwrap();
    let reason = async |config: SandboxConfig, bytes: u64| {
        let dir = tempfile::tempdir().unwrap();
        let config = SandboxConfig { plugins_dir: dir.path().to_owned(), ..config };
        let bench = Bench::of(dir, config, &["noop"], vec![job("noop")]).await;
        fs::File::options().write(true).open(bench.path("noop")).unwrap().set_len(bytes).unwrap();
        let report = bench.rescan().await;
        (report.trouble.skipped, report.rejected)
    };
    config.load.component_size = noop.len();
    let large = noop.len() as u64 + 1;
    let (skipped, rejected) = reason(config.clone(), large).await;
    assert_eq!(skipped, []);
    let why = format!("it is larger than {} bytes (plugins.component_size)", noop.len());
    assert_eq!(rejected[0].state, VersionState::Rejected(why));
    assert_eq!(rejected[0].size_bytes, large);
    let padded = [noop.as_slice(), &[0]].concat();
    assert_eq!(rejected[0].digest, PluginFile::of("noop".parse().unwrap(), padded, None).digest);

    // Above the highest value of the key it is not even hashed.
    let (skipped, rejected) = reason(config, (256 << 20) + 1).await;
    assert_eq!(rejected, []);
    let why = "it is larger than 268435456 bytes, the most that plugins.component_size can allow";
    assert_eq!(skipped[0].reason, why);
}
