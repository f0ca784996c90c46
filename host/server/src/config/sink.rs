//! `[sinks.<name>]`: the destinations of events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_nats::ServerAddr;
use domain::address::Address;
use jiff::SignedDuration;
use redis::IntoConnectionInfo;
use ureq::http::Uri;

use super::grants::GrantTargets;
use super::reader::Section;
use super::secret::{Named, Secrets};
use super::signing_key::SigningKey;
use super::text::{Parameter, check_parameters};

/// The destination of the events of some topics.
#[derive(Debug, Clone)]
pub struct Sink {
    pub name: String,
    pub topics: Vec<String>,
    pub to: To,
    /// Maximum number of tries for an event.
    pub tries_max: u32,
    /// Time limit of one try, in real time.
    pub timeout: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    Webhook {
        /// The address that gets a POST for each event.
        url: Address,
        signed_with: Option<Named>,
        /// Events of one request. With more than 1, its body is an array.
        batch: u32,
    },
    Table {
        datasource: String,
        table: String,
    },
    Nats(Nats),
    Redis(Redis),
}

/// A stream of NATS JetStream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nats {
    pub address: Address,
    pub password: Option<Named>,
    pub subject: Subject,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The topic with this prefix.
    Topic(String),
    Fixed(String),
}

impl Subject {
    pub fn of(&self, topic: &str) -> String {
        match self {
            Subject::Topic(prefix) => format!("{prefix}{topic}"),
            Subject::Fixed(subject) => subject.clone(),
        }
    }
}

/// A stream of Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redis {
    pub address: Address,
    pub password: Option<Named>,
    /// The topic by default.
    pub stream: Option<String>,
    /// Approximate maximum of entries in the stream; no maximum by default.
    pub length_max: Option<u64>,
}

/// Each kind with the key that names its destination and the other keys that it accepts.
const KINDS: [(&str, &[&str]); 4] = [
    ("webhook", &["signed_with", "batch"]),
    ("table", &["datasource"]),
    ("nats", &["password", "subject", "subject_prefix"]),
    ("redis", &["password", "stream", "stream_length_max"]),
];
/// Parameters of the address of a Redis server.
const REDIS_PARAMETERS: [Parameter; 1] = [("protocol", &["2", "3", "resp2", "resp3"])];
const BATCH_DEFAULT: u32 = 1;
const BATCH_MAX: u64 = 1_000;
const TRIES_DEFAULT: u32 = 10;
const TIMEOUT_DEFAULT: SignedDuration = SignedDuration::from_secs(10);
const TIMEOUT_MAX: SignedDuration = SignedDuration::from_mins(5);

/// Reads all sinks. Each topic goes to at most one of them.
pub fn read(sections: Vec<(String, Section<'_>)>, known: &GrantTargets<'_>) -> Vec<Arc<Sink>> {
    let mut taken: BTreeMap<String, String> = BTreeMap::new();
    let mut sinks = Vec::new();
    for (name, section) in sections {
        if let Some(sink) = one(name, section, known, &mut taken) {
            sinks.push(Arc::new(sink));
        }
    }
    sinks
}

fn one(
    name: String,
    mut section: Section<'_>,
    known: &GrantTargets<'_>,
    taken: &mut BTreeMap<String, String>,
) -> Option<Sink> {
    let mut topics = Vec::new();
    let found = section.texts("topics");
    if found.is_empty() {
        section.blame("topics", "the sink has no topics", "name them, like topics = [\"LedgerPosting\"]");
    }
    for topic in found {
        match taken.insert(topic.value.clone(), name.clone()) {
            Some(other) => {
                let what = format!("topic {:?} goes to the sink {other:?} already", topic.value);
                section.blame_found(&topic, what, "name each topic once");
            }
            None => topics.push(topic.value),
        }
    }
    let to = to(&mut section, &topics, known);
    let tries = section.count("tries_max", 1..=1_000);
    let timeout = section.duration("timeout");
    if let Some(found) = &timeout
        && (found.value < SignedDuration::from_millis(1) || found.value > TIMEOUT_MAX)
    {
        let what = format!("{:#} is no time for one try", found.value);
        section.blame_found(found, what, format!("use 1ms to {TIMEOUT_MAX:#}"));
    }
    section.finish();
    let timeout = timeout.map_or(TIMEOUT_DEFAULT, |found| found.value);
    Some(Sink {
        name,
        topics,
        to: to?,
        tries_max: tries.map_or(TRIES_DEFAULT, |found| u32::try_from(found.value).unwrap_or(TRIES_DEFAULT)),
        timeout: timeout.unsigned_abs(),
    })
}

fn to(section: &mut Section<'_>, topics: &[String], known: &GrantTargets<'_>) -> Option<To> {
    let all: Vec<&'static str> =
        KINDS.into_iter().flat_map(|(kind, keys)| [&[kind], keys].concat()).collect();
    all.iter().for_each(|key| section.asked(key));
    let mut given = KINDS.into_iter().filter(|(kind, _)| section.has(kind));
    let (Some((kind, own)), None) = (given.next(), given.next()) else {
        all.iter().for_each(|key| section.skip(key));
        let remedy = "give one of webhook, table (with datasource), nats and redis";
        section.blame("", "it has to say exactly once where events go", remedy);
        return None;
    };
    for key in KINDS.into_iter().flat_map(|(_, keys)| keys).filter(|key| !own.contains(key)) {
        section.refuse(key, &format!("a sink with {kind} has no {key}"), "remove it");
    }
    match kind {
        "webhook" => webhook(section, known.secrets),
        "table" => table(section, known.datasources),
        "nats" => nats(section, topics, known.secrets),
        _ => redis(section, known.secrets),
    }
}

fn webhook(section: &mut Section<'_>, secrets: &Secrets) -> Option<To> {
    let (found, signed_with) = (section.text("webhook"), section.text("signed_with"));
    let named = signed_with.as_ref().and_then(|key| secrets.find(section, key));
    if let (Some(found), Some(named)) = (&signed_with, &named)
        && let Err(what) = SigningKey::new(&named.secret)
    {
        let what = format!("the secret {:?} is no key to sign with: {what}", named.name);
        section.blame_found(found, what, "make one by `echo whsec_$(openssl rand -base64 32)`");
    }
    let batch = section.count("batch", 1..=BATCH_MAX);
    let batch = batch.map_or(BATCH_DEFAULT, |found| u32::try_from(found.value).unwrap_or(BATCH_DEFAULT));
    let found = found?;
    let url = Address::new(found.value.clone());
    let parsed: Option<Uri> = found.value.parse().ok();
    let scheme = ["http://", "https://"].iter().any(|scheme| found.value.starts_with(scheme));
    if !scheme || parsed.is_none_or(|parsed| parsed.host().is_none_or(str::is_empty)) {
        let what = match found.value.contains("://") {
            true => format!("{url:?} is not an address that events can be sent to"),
            false => "an address without a scheme is not one that events can be sent to".to_owned(),
        };
        section.blame_found(&found, what, "use https://… or http://…");
        return None;
    }
    Some(To::Webhook { url, signed_with: named, batch })
}

fn table(section: &mut Section<'_>, datasources: &BTreeSet<String>) -> Option<To> {
    let (table, datasource) = (section.text("table"), section.text("datasource"));
    let table = table?;
    if !is_identifier(&table.value) {
        let what = format!("{:?} is not a table's name", table.value);
        section.blame_found(&table, what, "use a-z, 0-9 and _, like \"event_inbox\"");
        return None;
    }
    let Some(datasource) = datasource else {
        section.blame("datasource", "the table has no datasource", "add datasource = \"name\"");
        return None;
    };
    if !datasources.contains(&datasource.value) {
        let what = format!("there is no datasource {:?}", datasource.value);
        let remedy = format!("add [datasources.{}] with its url", datasource.value);
        section.blame_found(&datasource, what, remedy);
        return None;
    }
    Some(To::Table { datasource: datasource.value, table: table.value })
}

/// The name becomes part of a statement.
fn is_identifier(text: &str) -> bool {
    let start = text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    start
        && text.len() <= 63
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

fn nats(section: &mut Section<'_>, topics: &[String], secrets: &Secrets) -> Option<To> {
    let remedy = "use nats://host:4222 or tls://host:4222; for a user nats://user@host:4222 and password = \"name of a secret\"";
    let address = section.parsed("nats", remedy, |text| {
        let shown = Address::new(text).anonymous();
        let parsed: ServerAddr = text.parse().map_err(|e| format!("{shown:?}: {e}"))?;
        let known = matches!(parsed.scheme(), "nats" | "tls") && text.contains("://");
        if !known || parsed.host().is_empty() {
            return Err(format!("{shown:?} is not the address of a NATS server"));
        }
        without_password(parsed.password())?;
        let url = parsed.into_inner();
        check_parameters(url.query().unwrap_or_default(), &[])?;
        if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
            return Err(format!("{shown:?} contains more than a server and its port"));
        }
        Ok(text.to_owned())
    });
    let password = secrets.named(section, "password");
    let subject = match (section.text("subject"), section.text("subject_prefix")) {
        (Some(_), Some(prefix)) => {
            section.blame_found(
                &prefix,
                "a subject that is given whole has no prefix",
                "keep one of the two",
            );
            return None;
        }
        (Some(subject), None) => (Subject::Fixed(subject.value.clone()), Some(subject)),
        (None, Some(prefix)) => (Subject::Topic(prefix.value.clone()), Some(prefix)),
        (None, None) => (Subject::Topic(String::new()), None),
    };
    let (subject, found) = subject;
    if let Some(bad) = topics.iter().map(|topic| subject.of(topic)).find(|subject| !is_subject(subject)) {
        let what = format!("{bad:?} is no subject that can be published to");
        let remedy = "use words with a dot between them, like \"events.ledger\", without spaces, * and >";
        match found {
            Some(found) => section.blame_found(&found, what, remedy),
            None => section.blame("topics", what, "rename the topic, or give subject"),
        }
        return None;
    }
    let address = address?;
    let user = address.value.parse::<ServerAddr>().is_ok_and(|parsed| parsed.has_user_pass());
    if user != password.is_some() {
        let what = "a user and a password belong together";
        section.blame_found(&address, what, "use nats://user@host:4222 and password = \"name of a secret\"");
    }
    Some(To::Nats(Nats { address: Address::new(address.value), password, subject }))
}

/// A subject for publishing has no wildcard and no empty token.
fn is_subject(text: &str) -> bool {
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == '*' || c == '>';
    text.split('.').all(|word| !word.is_empty() && !word.contains(bad))
}

fn redis(section: &mut Section<'_>, secrets: &Secrets) -> Option<To> {
    let remedy =
        "use redis://host:6379 or rediss://host:6379, and password = \"name of a secret\" if it asks for one";
    let address = section.parsed("redis", remedy, |text| {
        let address = Address::new(text);
        let bad = || format!("{:?} is not the address of a Redis server", address.anonymous());
        if !["redis://", "rediss://"].iter().any(|scheme| text.starts_with(scheme)) || text.contains('#') {
            return Err(bad());
        }
        check_parameters(text.split_once('?').map_or("", |(_, query)| query), &REDIS_PARAMETERS)?;
        let parsed = text
            .into_connection_info()
            .map_err(|e| format!("{}: {}", bad(), address.mask(&e.to_string())))?;
        without_password(parsed.redis_settings().password())?;
        Ok((text.to_owned(), parsed.redis_settings().username().is_some()))
    });
    let password = secrets.named(section, "password");
    if let Some(found) = &address
        && found.value.1
        && password.is_none()
    {
        let what = "a user and a password belong together";
        section.blame_found(found, what, "add password = \"name of a secret\", or remove the user");
    }
    let stream = section.text("stream");
    if let Some(stream) = stream.as_ref().filter(|stream| stream.value.is_empty()) {
        section.blame_found(stream, "the stream has no name", "name it, or remove it to use the topic");
    }
    let length_max = section.count("stream_length_max", 1..=1_000_000_000_000);
    Some(To::Redis(Redis {
        address: Address::new(address?.value.0),
        password,
        stream: stream.map(|found| found.value),
        length_max: length_max.map(|found| found.value),
    }))
}

fn without_password(password: Option<&str>) -> Result<(), String> {
    password.map_or(Ok(()), |_| Err("the address contains a password, which everyone can read".to_owned()))
}
