//! The file of an SQLite store: its names, its permissions, and a host that loses it.

mod loss;
mod modes;
mod names;
mod restore;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::support::process::{Process, free_port, tidemill};
use crate::support::site::text;

/// A folder with a configuration that uses the default store.
struct Folder {
    path: PathBuf,
    address: SocketAddr,
}

impl Folder {
    /// `more` is the rest of the configuration.
    fn new(path: PathBuf, more: &str) -> Folder {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        std::fs::create_dir_all(path.join("plugins")).unwrap();
        std::fs::write(path.join("tidemill.toml"), format!("server.listen = \"{address}\"\n{more}")).unwrap();
        Folder { path, address }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    async fn serve(&self) -> Process {
        let mut process = Process::spawn(&self.path("tidemill.toml"), self.address);
        process.ready().await;
        process
    }

    /// Runs `tidemill serve`, which must refuse to start and print all of these.
    async fn refused(&self, parts: &[&str]) {
        let (code, said) = run(&["serve"], &self.path).await;
        assert_eq!(code, Some(1), "{said}");
        for part in parts {
            assert!(said.contains(part), "{part:?} is not in {said:?}");
        }
    }
}

/// The exit code of a command, and its whole output.
async fn run(args: &[&str], folder: &Path) -> (Option<i32>, String) {
    let output = tidemill(args, folder).await;
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}
