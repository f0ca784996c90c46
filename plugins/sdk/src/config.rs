//! The job's config table. Values are text; the host has checked them against the schema of `describe`.

use std::fmt::Display;
use std::str::FromStr;

use crate::Failure;
use crate::bindings::wasi::config::store;

/// The value of a key, if it is set.
pub fn get(key: &str) -> Result<Option<String>, Failure> {
    store::get(key).map_err(|error| {
        let (store::Error::Upstream(reason) | store::Error::Io(reason)) = error;
        Failure::transient("config-unavailable", format!("config key {key:?} cannot be read: {reason}"))
    })
}

/// The value of a key as a number, a bool, a text …, or the default if it is not set.
pub fn get_or<T>(key: &str, default: T) -> Result<T, Failure>
where
    T: FromStr,
    T::Err: Display,
{
    match get(key)? {
        None => Ok(default),
        Some(text) => parse(key, &text),
    }
}

fn parse<T>(key: &str, text: &str) -> Result<T, Failure>
where
    T: FromStr,
    T::Err: Display,
{
    text.trim().parse().map_err(|error| {
        let wanted = std::any::type_name::<T>();
        Failure::permanent(
            "bad-config",
            format!("config key {key:?} has the value {text:?}, which is not a {wanted} ({error}); mend it in the job's config"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::parse;
    use crate::Failure;

    #[test]
    fn a_value_of_the_wrong_kind_names_the_key() {
        assert_eq!(parse::<u32>("limit", " 7 "), Ok(7));
        let Err(Failure::Permanent(error)) = parse::<u32>("limit", "many") else {
            panic!("not a permanent failure")
        };
        assert_eq!(error.code, "bad-config");
        assert!(
            error.message.contains("\"limit\"") && error.message.contains("\"many\""),
            "{}",
            error.message
        );
    }
}
