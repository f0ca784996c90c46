//! Mistakes in the names of jobs, plugins, datasources and tokens.

use domain::id::NameError;

pub const NAME_REMEDY: &str = "use a-z, 0-9, - and _, starting with a letter, like \"wallet-2\"";

/// Describes the problem of a name; the remedy is added by the caller.
pub fn name_words(error: &NameError) -> String {
    match error {
        NameError::BadCharacter(c) => format!("{c:?} is not allowed in it"),
        other => other.to_string(),
    }
}
