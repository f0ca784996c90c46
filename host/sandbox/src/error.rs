use std::io;

#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("failed to set up the WebAssembly engine: {0}")]
    Engine(String),
    #[error(
        "there is no address space for even {calls} calls of plugins at a time: {why}; the bound is {bound}. A call \
         reserves about 8 GiB, most of which is never used: raise it (ulimit -v unlimited, LimitAS=infinity)"
    )]
    Pool { calls: u32, why: String, bound: String },
    #[error("failed to set up TLS: {0}")]
    Tls(#[source] rustls::Error),
    #[error("failed to start the thread that interrupts guests")]
    Ticker(#[source] io::Error),
}
