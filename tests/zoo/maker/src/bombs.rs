//! Files that are an attack before anything of them runs.

use anyhow::Result;

pub fn all() -> Result<Vec<(&'static str, Vec<u8>)>> {
    Ok(vec![])
}
