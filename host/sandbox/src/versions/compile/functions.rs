//! Compiled functions of the previous version of a plugin. The next version shares most of them, so only
//! changed functions are compiled. Each is found by a digest that wasmtime computes over all inputs of the
//! function's code.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::limits::MIB;
use wasmtime::CacheStore;

/// Most bytes of new code kept from one compilation, because the total memory is limited.
pub const FUNCTIONS_BYTES_MAX: usize = 64 * MIB;
const LENGTH_BYTES: usize = size_of::<u64>();

/// The functions that one compilation can reuse, and those that it leaves for the next one.
#[derive(Debug, Default)]
pub struct Functions {
    bytes: Vec<u8>,
    /// The position of each function's code in `bytes`.
    before: HashMap<Vec<u8>, Range<usize>>,
    /// The functions of this component, with code for the new ones. Functions that are no longer used are
    /// left out.
    now: Mutex<BTreeMap<Vec<u8>, Option<Vec<u8>>>>,
    new_bytes: AtomicUsize,
}

impl Functions {
    /// The output of an earlier compilation. Empty if the bytes are malformed.
    pub fn of(bytes: Vec<u8>) -> Functions {
        let before = places(&bytes).unwrap_or_default();
        Functions { bytes, before, ..Functions::default() }
    }

    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        for (key, code) in self.now().iter() {
            let code = code.as_deref().or_else(|| self.code_before(key)).unwrap_or_default();
            for part in [key, code] {
                out.write_all(&(part.len() as u64).to_le_bytes())?;
                out.write_all(part)?;
            }
        }
        Ok(())
    }

    /// The number of this component's functions that were reused, and the total.
    #[cfg(test)]
    pub fn known(&self) -> (usize, usize) {
        let now = self.now();
        (now.values().filter(|code| code.is_none()).count(), now.len())
    }

    fn code_before(&self, key: &[u8]) -> Option<&[u8]> {
        self.bytes.get(self.before.get(key)?.clone())
    }

    fn now(&self) -> MutexGuard<'_, BTreeMap<Vec<u8>, Option<Vec<u8>>>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CacheStore for Functions {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        let code = self.code_before(key)?;
        self.now().insert(key.to_owned(), None);
        Some(Cow::Borrowed(code))
    }

    fn insert(&self, key: &[u8], code: Vec<u8>) -> bool {
        let fits = self.new_bytes.fetch_add(code.len(), Ordering::Relaxed) < FUNCTIONS_BYTES_MAX;
        if fits {
            self.now().insert(key.to_owned(), Some(code));
        }
        fits
    }
}

/// Keys and codes alternate, each preceded by its length.
fn places(bytes: &[u8]) -> Option<HashMap<Vec<u8>, Range<usize>>> {
    let mut places = HashMap::new();
    let mut at = 0;
    while at < bytes.len() {
        let key = part(bytes, at)?;
        let code = part(bytes, key.end)?;
        at = code.end;
        places.insert(bytes[key].to_owned(), code);
    }
    Some(places)
}

fn part(bytes: &[u8], at: usize) -> Option<Range<usize>> {
    let (length, rest) = bytes.get(at..)?.split_first_chunk::<LENGTH_BYTES>()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok().filter(|length| *length <= rest.len())?;
    let start = at + LENGTH_BYTES;
    Some(start..start + length)
}
