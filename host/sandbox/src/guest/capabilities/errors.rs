//! Converts errors of the scope into those of the interfaces. In contract 0.1 each interface has its own type.

use domain::scope::ScopeError;

use crate::guest::bindings;

macro_rules! convert {
    ($($interface:ident: $($error:ident => $case:ident),+;)+) => { $(
        impl From<ScopeError> for bindings::$interface::Error {
            fn from(error: ScopeError) -> Self {
                match error {
                    $(ScopeError::$error(why) => Self::$case(why),)+
                    other => Self::Other(other.to_string()),
                }
            }
        }
    )+ };
}

convert! {
    events: Denied => Denied, Refused => Denied, Limit => Limit;
    alerts: Denied => Denied, Refused => Denied, Limit => Limit;
    audit: Denied => Denied, Refused => Denied, Limit => Limit;
    items: Denied => Denied, Refused => Denied, Limit => Limit;
    metrics: Denied => Denied, Refused => Name, Limit => Limit;
    kv: Denied => Denied, Refused => Denied, Limit => Limit, Unavailable => Unavailable, Store => Unavailable;
    locks: Denied => Denied, Refused => Denied, Limit => Limit, Unavailable => Unavailable, Store => Unavailable;
}

impl From<ScopeError> for bindings::sql::Error {
    fn from(error: ScopeError) -> Self {
        match error {
            ScopeError::Denied(why) | ScopeError::Refused(why) => Self::Denied(why),
            ScopeError::Limit(why) => Self::Limit(why),
            ScopeError::Database(why) => Self::Database(why),
            ScopeError::Unavailable(why) | ScopeError::Store(why) => Self::Unavailable(why),
        }
    }
}

/// The interface has no case for calls that fail each time they are repeated.
impl From<ScopeError> for bindings::keyvalue::Error {
    fn from(error: ScopeError) -> Self {
        match error {
            ScopeError::Denied(_) => Self::AccessDenied,
            other => Self::Other(other.to_string()),
        }
    }
}
