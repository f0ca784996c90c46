//! `[store]` and `[datasources]`: addresses and passwords of databases.

use std::collections::BTreeMap;
use std::path::Path;

use domain::id::Name;
use domain::secret::Secret;
use store::config::DatasourceConfig;
use store::opening::sqlite_file::SqliteFile;

use super::names::{NAME_REMEDY, name_words};
use super::reader::{Located, Section};
use super::secret::Secrets;
use super::text;

pub fn store(
    mut section: Section<'_>,
    data_dir: &Path,
    secrets: &Secrets,
) -> (Option<String>, Option<Secret>, bool) {
    let url = match section.text("url") {
        Some(found) => database(&section, &found),
        None => default_store(&section, data_dir),
    };
    let password = password(&mut section, url.as_deref(), secrets);
    let notify = section.flag("notify").is_none_or(|found| found.value);
    section.finish();
    (url, password, notify)
}

/// The default is a file in the data folder. Earlier versions always used the folder `data` beside the
/// configuration. An existing file there is reported as a mistake, so that it is not silently ignored.
fn default_store(section: &Section<'_>, data_dir: &Path) -> Option<String> {
    let (file, former) = (data_dir.join("tidemill.db"), section.folder.join("data/tidemill.db"));
    if former.exists() && !file.exists() {
        let what = format!("the store is by default {}, but it lies in {}", file.display(), former.display());
        let remedy = format!(
            "set url = \"sqlite://data/tidemill.db\" to leave it there, or move the file, and the -wal and -shm beside it \
             if there are any, to {} while no host runs",
            data_dir.display()
        );
        section.blame("url", what, remedy);
        return None;
    }
    let file = SqliteFile::new(&file, "");
    file.map(|file| file.url()).map_err(|what| section.blame("url", what, text::STORE_REMEDY)).ok()
}

/// The password for Postgres, which is not part of the address.
fn password(section: &mut Section<'_>, url: Option<&str>, secrets: &Secrets) -> Option<Secret> {
    if url.is_some_and(|url| url.starts_with("sqlite:"))
        && let Some(found) = section.text("password")
    {
        section.blame_found(&found, "an SQLite file has no password", "remove it");
        return None;
    }
    secrets.named(section, "password").map(|named| named.secret)
}

fn database(section: &Section<'_>, found: &Located<String>) -> Option<String> {
    text::database_url(&found.value, section.folder)
        .map_err(|what| section.blame_found(found, what, text::STORE_REMEDY))
        .ok()
}

/// A datasource with an invalid address keeps its name, so that grants are checked against all names.
pub fn datasources(
    section: Section<'_>,
    store_url: Option<&str>,
    secrets: &Secrets,
) -> BTreeMap<String, Option<DatasourceConfig>> {
    let file = |url: &str| SqliteFile::of(url).and_then(Result::ok);
    let own_file = store_url.and_then(file);
    let mut datasources = BTreeMap::new();
    for (name, mut section) in section.sections() {
        if let Err(e) = name.parse::<Name>() {
            let what = format!("{name:?} is not a datasource's name: {}", name_words(&e));
            section.blame("", what, NAME_REMEDY);
        }
        if !section.has("url") {
            section.blame(
                "url",
                "the datasource has no address",
                "add url = \"postgres://…\" or \"sqlite://…\"",
            );
        }
        let found = section.text("url");
        let url = found.as_ref().and_then(|found| database(&section, found));
        if let (Some(found), Some(url)) = (&found, &url)
            && let (Some(own), Some(file)) = (&own_file, file(url))
            && file.is_same(own)
        {
            let what = "this is the store's own file: a plugin could change the host's records";
            section.blame_found(found, what, "use a file of its own for business data");
        }
        let password = password(&mut section, url.as_deref(), secrets);
        section.finish();
        datasources.insert(name, url.map(|url| DatasourceConfig { url, password }));
    }
    datasources
}
