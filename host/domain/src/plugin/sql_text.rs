//! Which SQL texts a plugin may declare. The check works on the text; it does not parse SQL.

/// Drivers run every statement of a text, so a second statement could bypass the declaration. A `;` inside a
/// quoted part is allowed, and so is one at the end.
///
/// Quoting depends on the database. Postgres's dollar quotes and escaped quotes are refused. Brackets and
/// backticks quote in SQLite only, so a text has to be one statement in both readings.
pub(super) fn check_single(sql: &str) -> Result<(), String> {
    let text = sql.trim().trim_end_matches(';');
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    if text.contains("--") || text.contains("/*") {
        return Err("comments are not allowed".to_owned());
    }
    let small = text.to_lowercase();
    if small.contains("u&\"") || small.contains("u&'") {
        return Err("names and texts in code points (U&) are not allowed".to_owned());
    }
    if text.contains("\\'") {
        return Err("a backslash before a quote is not allowed: pass the text as a parameter".to_owned());
    }
    let plain = unquoted(text, &QUOTES);
    if plain.contains(';') || unquoted(text, &SQLITE_QUOTES).contains(';') {
        return Err("it holds more than one statement".to_owned());
    }
    let first = text.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    if !["select", "insert", "update", "delete", "with"].contains(&first.as_str()) {
        return Err(format!("{first:?} is not allowed: select, insert, update, delete and with are"));
    }
    if let Some(word) = small.split(|c: char| !c.is_alphanumeric() && c != '_').find(|word| is_reserved(word))
    {
        return Err(format!("{word:?} is not for plugins: it reaches past the tables of a business"));
    }
    if names_own_schema(&small) {
        return Err(format!("{OWN_SCHEMA:?} is the host's own schema"));
    }
    if selects_into(&plain.to_lowercase()) {
        return Err("a select that makes a table (into) is not allowed".to_owned());
    }
    if plain.split('$').skip(1).any(|after| !after.starts_with(|c: char| c.is_ascii_digit())) {
        return Err("`$` is for parameters only, as in $1: pass the text as one".to_owned());
    }
    Ok(())
}

/// The schema of the host's own tables on Postgres.
pub const OWN_SCHEMA: &str = "tidemill";

/// Whether the text uses the schema to qualify a name, quoted or not.
fn names_own_schema(small: &str) -> bool {
    let text = small.replace('"', " ");
    let part_of_a_name = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(OWN_SCHEMA).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + OWN_SCHEMA.len()..]);
        !before.ends_with(part_of_a_name) && after.trim_start().starts_with('.')
    })
}

/// `SELECT … INTO t` creates a table, and `INTO TEMP t` creates one that hides a table of the same name from
/// the next user of the connection. An INSERT names its table before any SELECT within the same parentheses.
fn selects_into(plain: &str) -> bool {
    let (mut selected, mut outside) = (false, Vec::new());
    let spaced = plain.replace('(', " ( ").replace(')', " ) ");
    for word in spaced.split(|c: char| !(c.is_alphanumeric() || "_()".contains(c))) {
        // A number may directly precede a word.
        let word = if word.ends_with("into") && word.starts_with(|c: char| c.is_ascii_digit()) {
            "into"
        } else {
            word
        };
        match word {
            "(" => outside.push(std::mem::take(&mut selected)),
            ")" => selected = outside.pop().unwrap_or(selected),
            "select" => selected = true,
            "into" if selected => return true,
            _ => {}
        }
    }
    false
}

/// Words that reach beyond the tables of a business: files, other connections, locks and settings that
/// outlast an attempt, and functions that run a text. Also refused inside quotes, because databases disagree
/// on where a quote ends. The database's admin has to limit the role's permissions; this check protects if
/// the role has too many.
fn is_reserved(word: &str) -> bool {
    const STARTS: [&str; 9] = [
        "pg_",
        "sqlite_",
        "pragma_",
        "dblink",
        "query_to_xml",
        "cursor_to_xml",
        "table_to_xml",
        "schema_to_xml",
        "database_to_xml",
    ];
    const WORDS: [&str; 20] = [
        "set_config",
        "current_setting",
        "load_extension",
        "fts3_tokenizer",
        "ts_stat",
        "ts_rewrite",
        "lowrite",
        "loread",
        "lo_import",
        "lo_export",
        "lo_get",
        "lo_put",
        "lo_open",
        "lo_close",
        "lo_creat",
        "lo_create",
        "lo_unlink",
        "lo_from_bytea",
        "lo_truncate",
        "lo_lseek",
    ];
    STARTS.iter().any(|start| word.starts_with(start)) || WORDS.contains(&word)
}

pub(super) const QUOTES: [(char, char); 2] = [('\'', '\''), ('"', '"')];
pub(super) const SQLITE_QUOTES: [(char, char); 4] = [('\'', '\''), ('"', '"'), ('`', '`'), ('[', ']')];

/// The text with each quoted part replaced by a space.
pub(super) fn unquoted(text: &str, quotes: &[(char, char)]) -> String {
    let mut outside = String::with_capacity(text.len());
    let mut until: Option<char> = None;
    for c in text.chars() {
        match until {
            Some(close) if c == close => until = None,
            Some(_) => {}
            None => match quotes.iter().find(|(open, _)| *open == c) {
                Some((_, close)) => {
                    until = Some(*close);
                    outside.push(' ');
                }
                None => outside.push(c),
            },
        }
    }
    outside
}
