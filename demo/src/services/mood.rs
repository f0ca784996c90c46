//! The behaviour of a service.

use std::str::FromStr;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mood {
    #[default]
    Well,
    /// Responds with a correct report of a failure.
    Fails,
    /// Responds with 503.
    Refuses,
    /// Responds with something that is not in the agreed format.
    Rubbish,
    /// Closes the connection in the middle of its response.
    Closes,
    /// Performs the request, but its response is lost.
    Loses,
    /// Does not respond until its mood changes.
    Hangs,
}

impl Mood {
    pub const ALL: [(&str, Mood); 7] = [
        ("well", Mood::Well),
        ("fails", Mood::Fails),
        ("refuses", Mood::Refuses),
        ("rubbish", Mood::Rubbish),
        ("closes", Mood::Closes),
        ("loses", Mood::Loses),
        ("hangs", Mood::Hangs),
    ];

    pub fn as_str(self) -> &'static str {
        Mood::ALL.iter().find(|(_, mood)| *mood == self).map_or("", |(word, _)| word)
    }
}

impl FromStr for Mood {
    type Err = String;

    fn from_str(text: &str) -> Result<Mood, String> {
        let known = || Mood::ALL.map(|(word, _)| word).join(", ");
        let found = Mood::ALL.iter().find(|(word, _)| *word == text);
        found.map(|(_, mood)| *mood).ok_or_else(|| format!("{text:?} is no mood: use {}", known()))
    }
}
