//! The settings of a Postgres session. They are not startup options, because a connection pooler drops those,
//! silently if it is configured so. Each connection sets them itself and then reads them back from the
//! server.

use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Row as _};

use crate::config::{SCHEMA, STATEMENT_TIME_MAX};

/// Settings that rule out plans that scan a whole table. The planner's statistics describe a table at its
/// last analysis; for a queue that is mostly an empty table, and a prepared statement keeps the plan made
/// then. With these settings, every plan of the store's statements uses only index steps. The cost estimates
/// are then meaningless and must not start the just-in-time compiler.
pub const HOT_PLANS: [(&str, &str); 5] = [
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("jit", "off"),
];

/// Why a connection cannot be used, and what to do about it.
#[derive(Debug, Clone)]
pub enum Refusal {
    /// Permanent: it needs a fix by a person.
    Unusable(String),
    /// Temporary: a later connection may be right.
    Passing(String),
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Refusal {
        Refusal::Passing(crate::error::with_remedy(&error))
    }
}

impl Refusal {
    pub fn text(&self) -> &str {
        let (Refusal::Unusable(text) | Refusal::Passing(text)) = self;
        text
    }
}

/// Requirements on a connection before it is used.
#[derive(Debug, Clone)]
pub struct Session {
    settings: Vec<(String, String)>,
    /// Whether it is for the store's own tables: their schema must exist, and the server must accept writes.
    is_store: bool,
}

impl Session {
    pub fn of_store(options: &PgConnectOptions) -> Session {
        let mut settings = of_url(options);
        settings.extend(own_settings().map(|(name, value)| (name.to_owned(), value)));
        settings.push(("default_transaction_isolation".to_owned(), "read committed".to_owned()));
        Session { settings, is_store: true }
    }

    /// SQL that applies the store's settings for the rest of a transaction that began on a datasource.
    pub fn set_for_a_transaction() -> String {
        let set = |(name, value): (&str, String)| {
            format!("SELECT set_config({}, {}, true)", quoted(name), quoted(&value))
        };
        own_settings().map(set).collect::<Vec<_>>().join("; ")
    }

    /// A business database keeps its own settings, except those that its URL names.
    pub fn of_datasource(options: &PgConnectOptions) -> Session {
        let mut settings = of_url(options);
        let is_set = settings.iter().any(|(name, _)| name == "search_path");
        // Postgres first searches the schema that has the role's name. For a role named like the host's
        // schema, that would expose the host's tables.
        if options.get_username() == SCHEMA && !is_set {
            settings.push(("search_path".to_owned(), "public".to_owned()));
        }
        Session { settings, is_store: false }
    }

    /// Checks whether the server can be the right one.
    pub async fn check(&self, conn: &mut PgConnection) -> Result<(), Refusal> {
        // A pooler that does not clean up (PgBouncer without `server_reset_query`) keeps the statements that
        // its last client prepared, under the same names that this driver uses.
        sqlx::raw_sql("DEALLOCATE ALL").execute(&mut *conn).await?;
        if self.is_store { check_that_it_writes(conn).await } else { Ok(()) }
    }

    /// Applies the settings, then checks that they hold. Both are separate messages, because a pooler that
    /// shares connections among transactions may route them to different servers.
    pub async fn prepare(&self, conn: &mut PgConnection) -> Result<(), Refusal> {
        if self.settings.is_empty() {
            return Ok(());
        }
        let set = |(name, value): &(String, String)| {
            format!("set_config({}, {}, false)", quoted(name), quoted(value))
        };
        let wanted = self.ask(conn, set).await.map_err(refused_setting)?;
        let show = |(name, _): &(String, String)| format!("current_setting({})", quoted(name));
        let found = self.ask(conn, show).await?;
        for ((name, _), (wanted, found)) in self.settings.iter().zip(wanted.into_iter().zip(found)) {
            if wanted != found {
                return Err(lost(name, &found, &wanted));
            }
        }
        if self.is_store {
            check_schema(conn).await?;
        }
        Ok(())
    }

    /// Fetches one text per setting, by name: if a setting occurs several times, the last one counts.
    async fn ask(
        &self,
        conn: &mut PgConnection,
        part: impl Fn(&(String, String)) -> String,
    ) -> Result<Vec<String>, sqlx::Error> {
        let parts: Vec<String> = self.settings.iter().map(part).collect();
        let row = one(conn, &format!("SELECT {}", parts.join(", "))).await?;
        let texts = (0..self.settings.len()).map(|at| row.try_get_unchecked::<String, _>(at));
        let texts: Vec<String> = texts.collect::<Result<_, _>>()?;
        let last = |at: usize| {
            let name = &self.settings[at].0;
            self.settings.iter().rposition(|(other, _)| other == name).unwrap_or(at)
        };
        Ok((0..texts.len()).map(|at| texts[last(at)].clone()).collect())
    }
}

fn own_settings() -> impl Iterator<Item = (&'static str, String)> {
    let own = [
        // `pg_temp` is last; otherwise a temporary table of the same name would come first.
        ("search_path", format!("{SCHEMA}, pg_temp")),
        ("statement_timeout", STATEMENT_TIME_MAX.as_millis().to_string()),
        ("synchronous_commit", "on".to_owned()),
    ];
    own.into_iter().chain(HOT_PLANS.map(|(name, value)| (name, value.to_owned())))
}

/// Settings that a URL names as startup options (`?options=-c name=value` and `?options[name]=value`).
fn of_url(options: &PgConnectOptions) -> Vec<(String, String)> {
    let words = words(options.get_options().unwrap_or_default());
    let mut words = words.iter().map(String::as_str);
    let mut settings = Vec::new();
    while let Some(word) = words.next() {
        let setting = match word {
            "-c" => words.next(),
            _ => word.strip_prefix("--").or_else(|| word.strip_prefix("-c")),
        };
        if let Some((name, value)) = setting.and_then(|setting| setting.split_once('=')) {
            settings.push((name.replace('-', "_").to_lowercase(), value.to_owned()));
        }
    }
    settings
}

/// Splits startup options like Postgres: at spaces; a backslash escapes the next character.
fn words(options: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut chars = options.chars();
    while let Some(char) = chars.next() {
        match (char, words.last_mut()) {
            ('\\', Some(word)) => word.extend(chars.next()),
            (char, Some(word)) if !char.is_ascii_whitespace() => word.push(char),
            _ => words.push(String::new()),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Fetches one row with the simple protocol, because prepared statements fail behind a pooler that shares
/// connections.
pub async fn one(conn: &mut PgConnection, sql: &str) -> Result<PgRow, sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql)).fetch_one(conn).await
}

pub async fn text(conn: &mut PgConnection, sql: &str) -> Result<Option<String>, sqlx::Error> {
    one(conn, sql).await?.try_get_unchecked(0)
}

async fn check_that_it_writes(conn: &mut PgConnection) -> Result<(), Refusal> {
    let asked = "SELECT CASE WHEN pg_is_in_recovery() THEN 'it is a standby'
        WHEN current_setting('transaction_read_only') = 'on' THEN 'default_transaction_read_only is on' ELSE '' END";
    let why = text(conn, asked).await?.unwrap_or_default();
    if why.is_empty() {
        return Ok(());
    }
    let remedy = "the store needs the primary: this host continues when one answers at the same address";
    Err(Refusal::Passing(format!("the server is read-only ({why}); {remedy}")))
}

async fn check_schema(conn: &mut PgConnection) -> Result<(), Refusal> {
    let found = text(conn, "SELECT current_schema()").await?.unwrap_or_default();
    if found == SCHEMA { Ok(()) } else { Err(lost("current_schema()", &found, SCHEMA)) }
}

fn lost(name: &str, found: &str, wanted: &str) -> Refusal {
    Refusal::Unusable(format!(
        "the session setting {name} is {found:?} just after it was set to {wanted:?}: something between this host and \
         Postgres does not keep settings of a session; connect to Postgres directly, or through a pooler that pools \
         sessions (PgBouncer: pool_mode = session)"
    ))
}

fn refused_setting(error: sqlx::Error) -> Refusal {
    match error {
        sqlx::Error::Database(e) if !super::server::is_wrong_server(e.as_ref(), true) => {
            Refusal::Unusable(format!(
                "Postgres refuses a setting of the session: {}; let this role set it, or remove it from the URL",
                e.message()
            ))
        }
        error => error.into(),
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_a_url() {
        let url = "postgres://a@b/c?options=-c%20search_path%3Dshop%2C%5C%20public%20--work-mem%3D8MB&options[geqo]=off";
        let options: PgConnectOptions = url.parse().unwrap();
        let settings = of_url(&options);
        let settings: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(settings, [("search_path", "shop, public"), ("work_mem", "8MB"), ("geqo", "off")]);
    }

    #[test]
    fn a_role_called_like_the_hosts_schema_does_not_look_into_it() {
        let search_path = |url: &str| {
            let settings = Session::of_datasource(&url.parse().unwrap()).settings;
            settings.into_iter().find(|(name, _)| name == "search_path").map(|(_, value)| value)
        };
        assert_eq!(search_path("postgres://tidemill@b/c").as_deref(), Some("public"));
        assert_eq!(search_path("postgres://tidemill@b/c?options[search_path]=shop").as_deref(), Some("shop"));
        assert_eq!(search_path("postgres://other@b/c"), None);
    }
}
