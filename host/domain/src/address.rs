//! Addresses of services. They may hold secrets: passwords, tokens, the path of a webhook. Display and debug
//! output never contains these secrets.

use std::fmt;

const HIDDEN: &str = "...";
/// Schemes of databases and brokers. In all other addresses the path is a secret too.
const PATH_SHOWN: [&str; 6] = ["sqlite", "postgres", "postgresql", "redis", "rediss", ""];
const USER_SHOWN: [&str; 8] = ["sqlite", "postgres", "postgresql", "redis", "rediss", "nats", "tls", ""];
/// Parameters whose values are not secret. Every other value is hidden, because a misspelt `password` cannot
/// be recognised.
const PARAMETERS_SHOWN: [&str; 15] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "sslcert",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "application_name",
    "mode",
    "cache",
    "immutable",
    "vfs",
    "protocol",
];
/// Shorter pieces of an address are too common to be masked in a text.
const PIECE_BYTES_MIN: usize = 4;

#[derive(Clone, PartialEq, Eq)]
pub struct Address(String);

/// The parts of `scheme://user:password@host/path?query#fragment`.
struct Parts<'a> {
    /// Includes the separator after it (`://`, `:`).
    scheme: &'a str,
    user: Option<&'a str>,
    password: Option<&'a str>,
    host: &'a str,
    /// Includes the leading slash.
    path: &'a str,
    query: Option<&'a str>,
    fragment: Option<&'a str>,
}

impl Address {
    pub fn new(text: impl Into<String>) -> Address {
        Address(text.into())
    }

    /// For callers that pass the text to a driver or a client, and nowhere else.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Without user and password. If the address was refused, the user may be a token.
    pub fn anonymous(&self) -> Address {
        let Parts { scheme, .. } = self.parts();
        let rest = self.0.get(scheme.len()..).unwrap_or_default();
        Address(format!("{scheme}{}", rest.rsplit_once('@').map_or(rest, |(_, rest)| rest)))
    }

    /// `text` without the parts that this address hides. Drivers and services repeat addresses in their
    /// errors.
    pub fn mask(&self, text: &str) -> String {
        let parts = self.parts();
        let mut pieces = vec![self.0.as_str()];
        pieces.extend(parts.password);
        pieces.extend(parts.query);
        pieces.extend(parts.fragment);
        let pairs = parts.query.unwrap_or_default().split('&');
        let secret = |pair: &&str| parameter(pair) != **pair;
        pieces.extend(pairs.filter(secret).map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value)));
        if !PATH_SHOWN.contains(&parts.name()) {
            pieces.push(parts.path);
            pieces.extend(parts.path.split('/'));
        }
        if !USER_SHOWN.contains(&parts.name()) {
            pieces.extend(parts.user);
        }
        pieces.retain(|piece| piece.len() >= PIECE_BYTES_MIN);
        pieces.sort_by_key(|piece| std::cmp::Reverse(piece.len()));
        pieces.iter().fold(text.to_owned(), |text, piece| text.replace(piece, HIDDEN))
    }

    /// A password may contain any character: it extends from the first `:` after the scheme to the last `@`.
    fn parts(&self) -> Parts<'_> {
        let text = self.0.as_str();
        if let Some((path, parameters)) = split_file(text) {
            let scheme = if text.starts_with("sqlite://") { "sqlite://" } else { "sqlite:" };
            let query = Some(parameters).filter(|parameters| !parameters.is_empty());
            return Parts { scheme, user: None, password: None, host: "", path, query, fragment: None };
        }
        let end = text.find("://").map(|at| at + 3).or_else(|| text.find(':').map(|at| at + 1));
        let (scheme, rest) = match text.split_at_checked(end.unwrap_or(0)) {
            // `host:port` has no scheme.
            Some((scheme, rest)) if scheme.ends_with('/') || rest.contains('@') => (scheme, rest),
            _ => ("", text),
        };
        let (login, rest) = rest.rsplit_once('@').map_or((None, rest), |(login, rest)| (Some(login), rest));
        let (user, password) = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
            Some((user, password)) => (Some(user), Some(password).filter(|password| !password.is_empty())),
            None => (None, None),
        };
        let (rest, fragment) = match rest.split_once('#') {
            Some((rest, fragment)) => (rest, Some(fragment)),
            None => (rest, None),
        };
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        Parts { scheme, user, password, host, path, query, fragment }
    }
}

/// The path and the parameters of an SQLite address, unchanged. `None` for another database's address. The
/// parameters begin at the last `?` of the file name: a `?` in a folder's name belongs to the path.
pub fn split_file(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("sqlite:")?;
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let name = rest.rfind('/').map_or(0, |at| at + 1);
    Some(match rest[name..].rfind('?') {
        Some(at) => (&rest[..name + at], &rest[name + at + 1..]),
        None => (rest, ""),
    })
}

impl Parts<'_> {
    fn name(&self) -> &str {
        self.scheme.split(':').next().unwrap_or_default()
    }
}

/// A parameter in its displayed form.
fn parameter(pair: &str) -> String {
    match pair.split_once('=') {
        Some((name, _)) if PARAMETERS_SHOWN.contains(&name) => pair.to_owned(),
        Some((name, _)) => format!("{name}={HIDDEN}"),
        None => HIDDEN.to_owned(),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.parts();
        f.write_str(parts.scheme)?;
        if let Some(user) = parts.user {
            let shown = USER_SHOWN.contains(&parts.name());
            write!(f, "{}@", if shown { user } else { HIDDEN })?;
        }
        f.write_str(parts.host)?;
        let path_shown = PATH_SHOWN.contains(&parts.name());
        if !path_shown && (parts.path.len() > 1 || parts.query.is_some() || parts.fragment.is_some()) {
            return write!(f, "/{HIDDEN}");
        }
        f.write_str(parts.path)?;
        if let Some(query) = parts.query {
            let query: Vec<String> = query.split('&').map(parameter).collect();
            write!(f, "?{}", query.join("&"))?;
        }
        if parts.fragment.is_some() {
            write!(f, "#{HIDDEN}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string(), f)
    }
}
