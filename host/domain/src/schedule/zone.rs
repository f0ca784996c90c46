//! Time zones by IANA name. A name that depends on the machine, or that denotes no place, is refused: all
//! hosts of a store have to agree on due times.

use jiff::tz::TimeZone;

/// Entries of zone databases that are not zones. `Etc/Unknown` means "no zone".
const NO_ZONES: [&str; 4] = ["localtime", "posixrules", "factory", "etc/unknown"];
/// Prefixes of the same zones with other rules for leap seconds.
const OTHER_RULES: [&str; 2] = ["posix/", "right/"];

/// A name that denotes no zone known to all hosts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("time zone {0:?} is not known ({remedy})", remedy = zone_remedy(.0))]
pub struct UnknownZone(pub String);

/// The zone of this name.
pub fn zone(name: &str) -> Result<TimeZone, UnknownZone> {
    let unknown = || UnknownZone(name.to_owned());
    if !is_name(name) || !available().any(|known| known.eq_ignore_ascii_case(name)) {
        return Err(unknown());
    }
    TimeZone::get(name).map_err(|_| unknown())
}

fn is_name(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    !NO_ZONES.contains(&lower.as_str()) && !OTHER_RULES.iter().any(|prefix| lower.starts_with(prefix))
}

fn available() -> impl Iterator<Item = String> {
    let names = jiff::tz::db().available().map(|name| name.as_str().to_owned());
    names.filter(|name| is_name(name)).chain(["UTC".to_owned()])
}

/// The suggestion for a zone that is unknown.
pub fn zone_remedy(name: &str) -> String {
    match nearest(name) {
        Some(near) => format!("did you mean {near:?}?"),
        None => "use an IANA name like \"Europe/Berlin\"".to_owned(),
    }
}

/// The name that was probably meant: the same last part in another region, or a few letters different.
fn nearest(name: &str) -> Option<String> {
    if name.is_empty() || name.len() > 64 {
        return None;
    }
    let wanted = name.to_ascii_lowercase().replace(' ', "_");
    let for_rules = OTHER_RULES.iter().find_map(|prefix| wanted.strip_prefix(prefix));
    let wanted = for_rules.unwrap_or(&wanted).to_owned();
    let city = wanted.rsplit('/').next().unwrap_or(&wanted).to_owned();
    let away = |known: &str| {
        let known = known.to_ascii_lowercase();
        let of_city = known.rsplit('/').next() == Some(city.as_str()) && city.len() > 2;
        if of_city { 0 } else { distance(&known, &wanted) }
    };
    let (away, known) = available().map(|known| (away(&known), known)).min()?;
    (away <= 2 && away < wanted.len()).then_some(known)
}

/// Edit distance: letters to insert, remove or replace.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let (mut diagonal, mut previous) = (i, i + 1);
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
        for (cell, right) in row.iter_mut().skip(1).zip(&b) {
            let replaced = diagonal + usize::from(left != *right);
            diagonal = *cell;
            *cell = replaced.min(previous + 1).min(*cell + 1);
            previous = *cell;
        }
    }
    row.last().copied().unwrap_or(0)
}
