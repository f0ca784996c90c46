//! A disk that is full, fails or is slow: no acknowledged item is lost, the problem is reported, and work
//! resumes automatically.

mod bench;
mod client;
mod failing;
mod full;
mod slow;
mod strace;
mod volume;
