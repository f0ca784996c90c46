//! `[host]`: the data folder of a host and its name.

use std::path::{Path, PathBuf};

use domain::text::is_hidden;

use super::reader::Section;

const HOST_NAME_BYTES_MAX: usize = 64;

/// The data folder and the display name of the host.
pub fn read(mut section: Section<'_>) -> (PathBuf, String) {
    let data_dir = section.path("data_dir", Path::new("data"));
    let name = match section.text("name") {
        Some(found) => match check_host_name(&found.value) {
            Ok(()) => found.value,
            Err(what) => {
                section.blame_found(&found, what, "change it, or remove it to use the machine's name");
                String::new()
            }
        },
        None => machine_name(),
    };
    section.finish();
    (data_dir, name)
}

fn check_host_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > HOST_NAME_BYTES_MAX {
        return Err(format!("a host's name has 1 to {HOST_NAME_BYTES_MAX} bytes"));
    }
    if name.contains(is_hidden) {
        return Err(format!("{name:?} holds a control or invisible character"));
    }
    Ok(())
}

fn machine_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.trim().chars().filter(|c| !is_hidden(*c)).take(HOST_NAME_BYTES_MAX).collect();
    if name.is_empty() { "tidemill".to_owned() } else { name }
}
