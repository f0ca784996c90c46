//! Conformance: every case on both databases.
