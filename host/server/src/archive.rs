//! Moves audit records older than the retention to compressed files. Records are deleted from the table only
//! after the file is complete, on disk, and was read back.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use domain::clock::Clock;
use engine::Engine;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sha2::{Digest, Sha256};
use store::Store;
use store::audit::archive::{Archive, OldRecords};
use store::opening::private;
use tokio_util::sync::CancellationToken;

/// Approximate number of records in one file.
const RECORDS_MAX: u32 = 50_000;
/// Longest pause between two checks of the clock, in real time.
const REST_MAX: Duration = Duration::from_secs(60);

/// An administrator's settings for the audit trail.
#[derive(Debug, Clone)]
pub struct AuditConfig {
    /// How long records stay in the table.
    pub retention: SignedDuration,
    pub dir: PathBuf,
    pub every: SignedDuration,
}

pub struct Archiver {
    pub store: Arc<Store>,
    pub config: AuditConfig,
    pub clock: Clock,
    pub engine: Arc<Engine>,
    pub stop: CancellationToken,
}

impl Archiver {
    pub async fn run(self: Arc<Self>) {
        let config = &self.config;
        tighten(&config.dir);
        let rest = Duration::try_from(config.every).unwrap_or(REST_MAX).min(REST_MAX);
        let mut next = self.clock.now();
        loop {
            // While the clock is not steady, records that look old may be recent.
            if self.clock.now() >= next && self.engine.clock_is_steady() {
                if let Err(error) = self.round(config).await {
                    let error = format!("{error:#}");
                    tracing::warn!(%error, "the audit trail could not be archived; it is tried again");
                }
                next = self.clock.now().checked_add(config.every).unwrap_or(Timestamp::MAX);
            }
            tokio::select! {
                _ = self.stop.cancelled() => return,
                _ = tokio::time::sleep(rest) => {}
            }
        }
    }

    async fn round(&self, config: &AuditConfig) -> anyhow::Result<()> {
        loop {
            let now = self.clock.now();
            let cutoff = now.checked_sub(config.retention).unwrap_or(Timestamp::MIN);
            let old = self.store.audit().old(cutoff, RECORDS_MAX).await?;
            if old.records.is_empty() || self.stop.is_cancelled() {
                return Ok(());
            }
            let dir = config.dir.clone();
            let (archive, path) = tokio::task::spawn_blocking(move || keep(&dir, &old)).await??;
            if !self.store.audit().archived(&archive, now).await? {
                tracing::info!(
                    file = archive.file,
                    "the audit trail changed meanwhile: this archive is dropped"
                );
                fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
                let sum = checksum_of(&path);
                return fs::remove_file(&sum).with_context(|| format!("cannot remove {}", sum.display()));
            }
            tracing::info!(
                file = archive.file,
                records = archive.records,
                "archived a part of the audit trail"
            );
        }
    }
}

/// Writes the records, one JSON document per line, and reads the file back before it returns success.
fn keep(dir: &Path, old: &OldRecords) -> anyhow::Result<(Archive, PathBuf)> {
    private::make_folder(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
    let (Some((_, first)), Some((last_id, last))) = (old.records.first(), old.records.last()) else {
        bail!("there is nothing to archive");
    };
    let day = |at: Timestamp| at.strftime("%Y%m%dT%H%M%SZ").to_string();
    let tail = last_id.get(last_id.len().saturating_sub(8)..).unwrap_or_default();
    let name = format!("audit-{}-{}-{tail}.jsonl.gz", day(first.at), day(last.at));
    let path = dir.join(&name);
    let draft = dir.join(format!(".{name}.new"));
    write_file(&draft, |file| {
        let mut gzip = GzEncoder::new(file, Compression::default());
        for (id, record) in &old.records {
            let line = json!({
                "id": id, "at": record.at.to_string(), "actor": record.actor, "action": record.action,
                "job": record.job, "subject": record.subject, "detail": record.detail,
            });
            writeln!(gzip, "{line}")?;
        }
        gzip.finish().map(|_| ())
    })?;
    let lines = BufReader::new(GzDecoder::new(File::open(&draft)?)).lines().map_while(Result::ok).count();
    if lines != old.records.len() {
        bail!("{} holds {lines} records of {}: check the disk", draft.display(), old.records.len());
    }
    let sum = Sha256::digest(fs::read(&draft)?);
    let sha256: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
    // In the format that `sha256sum -c` reads.
    write_file(&checksum_of(&path), |file| writeln!(file, "{sha256}  {name}"))?;
    fs::rename(&draft, &path).with_context(|| format!("cannot rename {}", draft.display()))?;
    File::open(dir)?.sync_all().with_context(|| format!("cannot sync {}", dir.display()))?;
    Ok((Archive { file: name, sha256, until: old.until, records: lines as u64 }, path))
}

/// Restricts the permissions of the folder and of files that earlier versions left readable for everyone.
fn tighten(dir: &Path) {
    private::tighten(dir);
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b"audit-") || name.as_encoded_bytes().starts_with(b".audit-") {
            private::tighten(&entry.path());
        }
    }
}

fn checksum_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".sha256");
    name.into()
}

/// Writes a file that is on disk when this returns.
fn write_file(path: &Path, write: impl FnOnce(&mut File) -> std::io::Result<()>) -> anyhow::Result<()> {
    let written = || {
        let mut file = private::create(path)?;
        write(&mut file)?;
        file.sync_all()
    };
    written().with_context(|| format!("cannot write {}; is its disk full?", path.display()))
}
