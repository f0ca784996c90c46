//! A disk that is full, fails or is slow: nothing that was acknowledged is lost, it is told, and it goes on by itself.

mod bench;
mod client;
mod failing;
mod full;
mod slow;
mod strace;
mod volume;
