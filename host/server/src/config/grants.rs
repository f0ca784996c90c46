//! `[jobs.<name>.grants]`: the resources that a job may access.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::{HeaderName, HeaderValue};
use domain::id::JobName;
use domain::job::{Access, Capability, Grants};
use domain::lock::LockPattern;
use domain::origin::{Methods, Origin, reach};
use domain::secret::{PLACE, SecretHeader};
use domain::text::check_key;

use super::names::{NAME_REMEDY, name_words};
use super::reader::{Located, Section};
use super::secret::Secrets;
use super::toml_tree::Value;

/// The names that a grant can refer to.
pub struct GrantTargets<'a> {
    pub datasources: &'a BTreeSet<String>,
    pub secrets: &'a Secrets,
}

const ACCESS: [(&str, Access); 2] = [("read", Access::Read), ("read-write", Access::ReadWrite)];

pub fn read(mut table: Section<'_>, known: &GrantTargets<'_>) -> Grants {
    let datasources = sql(table.section("sql"), known.datasources);
    let topics = topics(&mut table);
    let mut is_set =
        |capability: &Capability| table.flag(capability.as_str()).is_some_and(|found| found.value);
    let capabilities = Capability::ALL.into_iter().filter(|capability| is_set(capability)).collect();
    let items = items(&mut table);
    let locks = locks(&mut table);
    let http = origins(&mut table);
    let http_private = table.flag("http_private").is_some_and(|found| found.value);
    let secrets = table.section("secrets").sections();
    let secrets =
        secrets.into_iter().filter_map(|(name, section)| secret(name, section, &http, known.secrets));
    let secrets = secrets.collect();
    table.finish();
    Grants { datasources, topics, capabilities, items, locks, http, http_private, secrets }
}

fn sql(sql: Section<'_>, datasources: &BTreeSet<String>) -> BTreeMap<String, Access> {
    let mistakes = sql.mistakes();
    let mut granted = BTreeMap::new();
    for (name, found) in sql.free() {
        if !datasources.contains(&name) {
            let what = format!("there is no datasource {name:?}");
            let remedy = match datasources.iter().map(String::as_str).collect::<Vec<_>>() {
                none if none.is_empty() => format!("add [datasources.{name}] with its url"),
                known => format!("use one of: {}", known.join(", ")),
            };
            mistakes.add(&found.at, &found.key, what, remedy);
            continue;
        }
        let word = match &found.value {
            Value::Text(text) => ACCESS.iter().find(|(word, _)| word == text),
            _ => None,
        };
        match word {
            Some((_, access)) => {
                granted.insert(name, *access);
            }
            None => {
                let what = "the access is not known";
                mistakes.add(&found.at, &found.key, what, "use \"read\" or \"read-write\"");
            }
        }
    }
    granted
}

fn topics(table: &mut Section<'_>) -> BTreeSet<String> {
    let mut topics = BTreeSet::new();
    for topic in table.texts("events") {
        match check_key(&topic.value) {
            _ if topic.value.is_empty() => {
                table.blame_found(&topic, "a topic cannot be empty", "name a topic or remove it");
            }
            Err(why) => {
                let what = format!("{:?} is not a topic's name: {why}", topic.value);
                table.blame_found(&topic, what, "use visible characters");
            }
            Ok(()) => drop(topics.insert(topic.value)),
        }
    }
    topics
}

fn items(table: &mut Section<'_>) -> BTreeSet<JobName> {
    let mut items = BTreeSet::new();
    for job in table.texts("items") {
        match job.value.parse() {
            Ok(name) => drop(items.insert(name)),
            Err(e) => {
                let what = format!("{:?} is not a job's name: {}", job.value, name_words(&e));
                table.blame_found(&job, what, NAME_REMEDY);
            }
        }
    }
    items
}

fn locks(table: &mut Section<'_>) -> BTreeSet<LockPattern> {
    let mut locks = BTreeSet::new();
    for lock in table.texts("locks") {
        match lock.value.parse() {
            Ok(pattern) => drop(locks.insert(pattern)),
            Err(why) => {
                let what = format!("{:?} is not a lock's name: {why}", lock.value);
                let remedy =
                    "use a name like \"ledger\", or the beginning of names with a * like \"wallet:*\"";
                table.blame_found(&lock, what, remedy);
            }
        }
    }
    locks
}

fn origins(table: &mut Section<'_>) -> BTreeMap<Origin, Methods> {
    let mut origins = BTreeMap::new();
    for text in table.texts("http") {
        match reach(&text.value) {
            Ok((origin, methods)) => {
                if origins.insert(origin, methods).is_some() {
                    let what = format!("{:?} is granted twice", text.value);
                    table.blame_found(&text, what, "name each place once, with all its methods");
                }
            }
            Err(why) => {
                let what = format!("{:?} is not an address for requests: {why}", text.value);
                let remedy = "give scheme, host and port, like \"https://stock.example.com\" or \"http://10.0.0.5:9000\"";
                table.blame_found(&text, what, remedy);
            }
        }
    }
    origins
}

/// The header that contains a secret, unless another one is configured.
const HEADER: &str = "authorization";
/// These headers belong to the connection or to the host.
const NOT_FOR_SECRETS: [&str; 6] =
    ["host", "content-length", "transfer-encoding", "connection", "idempotency-key", "tidemill-epoch"];

fn secret(
    name: String,
    mut section: Section<'_>,
    http: &BTreeMap<Origin, Methods>,
    secrets: &Secrets,
) -> Option<SecretHeader> {
    let named = Located { value: name, at: section.at.clone(), key: section.key("") };
    let named = secrets.find(&section, &named);
    let to = secret_to(&mut section, http);
    let header = section.text("header");
    let name = header.as_ref().map_or(HEADER.to_owned(), |found| found.value.to_ascii_lowercase());
    let form = section.text("as");
    if let Some(found) = &header
        && (HeaderName::try_from(&name).is_err() || NOT_FOR_SECRETS.contains(&name.as_str()))
    {
        let what = format!("{:?} is not a header for a secret", found.value);
        section.blame_found(
            found,
            what,
            "use \"authorization\", or what the service asks for, like \"x-api-key\"",
        );
    }
    if let Some(found) = form.as_ref().filter(|found| !found.value.contains(PLACE)) {
        let what = format!("{:?} has no {PLACE} for the secret", found.value);
        section.blame_found(found, what, "write it like \"Bearer {}\"");
    }
    let default = if name == HEADER { "Bearer {}" } else { PLACE };
    let form = form.map_or(default.to_owned(), |found| found.value);
    let named = named?;
    let header = SecretHeader { name: named.name, to: to?, header: name, form, secret: named.secret };
    if HeaderValue::try_from(header.value().reveal()).is_err() {
        section.blame(
            "",
            "the secret holds what no header can, like a line break",
            "check its file or variable",
        );
    }
    section.finish();
    Some(header)
}

/// The origin that gets the secret. The job must be allowed to send requests to it.
fn secret_to(section: &mut Section<'_>, http: &BTreeMap<Origin, Methods>) -> Option<Origin> {
    let Some(found) = section.text("to") else {
        if !section.has("to") {
            section.blame("to", "it does not say which service gets the secret", "add to = \"https://…\"");
        }
        return None;
    };
    match found.value.parse::<Origin>() {
        Ok(origin) if http.contains_key(&origin) => Some(origin),
        Ok(origin) => {
            section.blame_found(
                &found,
                format!("{origin} is not granted to the job"),
                "add it to grants.http",
            );
            None
        }
        Err(why) => {
            let what = format!("{:?} is not an address for requests: {why}", found.value);
            section.blame_found(&found, what, "give scheme, host and port, as in grants.http");
            None
        }
    }
}
