//! Names and identifiers, validated when they are parsed: no other part of the host checks them again.

use std::fmt;
use std::str::FromStr;
use std::sync::Mutex;

use jiff::Timestamp;
use uuid::{ContextV7, Uuid};

/// Longest name of a job or plugin, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// Longest item key, in bytes.
pub const KEY_BYTES_MAX: usize = 512;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a name cannot be empty")]
    Empty,
    #[error("a name has at most {NAME_BYTES_MAX} bytes, this one has {0}")]
    TooLong(usize),
    #[error("{0:?} is not allowed in a name: use a-z, 0-9, '-' and '_', starting with a letter")]
    BadCharacter(char),
}

/// The name of a job or a plugin: `wallet-keygen-retry`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

pub type JobName = Name;
pub type PluginName = Name;

impl Name {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > NAME_BYTES_MAX {
            return Err(NameError::TooLong(text.len()));
        }
        for (at, c) in text.chars().enumerate() {
            let inner = c.is_ascii_digit() || c == '-' || c == '_';
            if !(c.is_ascii_lowercase() || (at > 0 && inner)) {
                return Err(NameError::BadCharacter(c));
            }
        }
        Ok(Name(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Orders the ids that are created in the same millisecond.
static ORDER: Mutex<ContextV7> = Mutex::new(ContextV7::new());

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new id (UUIDv7). Within one process, later ids sort after earlier ones.
            pub fn new(now: Timestamp) -> Self {
                let seconds = u64::try_from(now.as_second()).unwrap_or(0);
                let nanos = u32::try_from(now.subsec_nanosecond()).unwrap_or(0);
                $name(Uuid::new_v7(uuid::Timestamp::from_unix(&ORDER, seconds, nanos)))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::parse_str(text).map($name)
            }
        }
    };
}

uuid_id!(
    /// A host, identified by its state folder. Stable over restarts of its process.
    HostId
);
uuid_id!(
    /// One start of a host. Two processes with the same [`HostId`] have different incarnations.
    Incarnation
);
uuid_id!(RunId);
uuid_id!(ItemId);
uuid_id!(
    /// One claim of work by one host. Together with the epoch it fences every write of an attempt.
    AttemptId
);
uuid_id!(EventId);
uuid_id!(AlertId);

/// SHA-256 of a plugin's file. It identifies the version of a plugin.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// A prefix that is long enough to display in a table.
    pub fn short(&self) -> String {
        self.to_string().chars().take(12).collect()
    }
}

impl FromStr for Digest {
    type Err = &'static str;

    /// 64 hexadecimal digits.
    fn from_str(text: &str) -> Result<Digest, Self::Err> {
        const FORM: &str = "a digest has 64 hexadecimal digits";
        let mut bytes = [0; 32];
        if text.len() != 2 * bytes.len() || !text.is_ascii() {
            return Err(FORM);
        }
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| FORM)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| FORM)?;
        }
        Ok(Digest(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", self.short())
    }
}
