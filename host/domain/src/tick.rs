//! One due instant of a schedule, and what became of it. (job, instant) is unique over all hosts.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It started a run.
    Ran,
    /// A run of the job was still open.
    Overlap,
    /// The host was away; a later instant ran in its place.
    Coalesced,
}

impl Fate {
    pub fn as_str(self) -> &'static str {
        match self {
            Fate::Ran => "ran",
            Fate::Overlap => "overlap",
            Fate::Coalesced => "coalesced",
        }
    }
}
