//! Messages of the configuration, arguments, and the API against its router, without a socket.

mod cli;
mod config;
