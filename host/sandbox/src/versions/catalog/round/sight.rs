//! Loading during a scan: bytes from the folder or from the stored versions, and the result of loading them.

use std::sync::Arc;
use std::time::Duration;

use domain::id::{Digest, PluginName};

use super::Round;
use crate::config::LoadLimits;
use crate::versions::catalog::Skipped;
use crate::versions::catalog::loads::Load;
use crate::versions::catalog::seen::Seen;
use crate::versions::folder::{Content, Folder, PluginFile};

impl Round<'_> {
    /// `None` while it is being compiled. Until then the folder is recorded with its earlier content.
    pub(super) async fn file(
        &mut self,
        folder: &Arc<Folder>,
        plugin: &PluginName,
    ) -> Result<Option<Seen>, String> {
        let (folder, name) = (folder.clone(), plugin.clone());
        let limits = self.catalog.config.load;
        let (bytes_max, hashed_max) = (limits.component_size, LoadLimits::CEILING.component_size);
        let read = tokio::task::spawn_blocking(move || folder.read(&name, bytes_max, hashed_max)).await;
        let read = read.unwrap_or_else(|e| Err(e.to_string()));
        let seen = match read {
            Ok(Content::Whole(file)) => Ok(self.see(file).await),
            Ok(Content::TooLarge { digest, size_bytes }) => {
                let seen = Seen::too_large(digest, size_bytes, limits.too_large());
                self.note(plugin, &seen);
                Ok(Some(seen))
            }
            Err(reason) => Err(reason),
        };
        // A file that cannot be read now is recorded with its earlier digest.
        let before = self.present.folder.as_ref().and_then(|folder| folder.get(plugin).copied());
        let found = seen.as_ref().ok().and_then(|seen| seen.as_ref());
        if let Some(digest) = found.map(|seen| seen.digest).or(before) {
            self.now.folder.get_or_insert_default().insert(plugin.clone(), digest);
        }
        if matches!(seen, Ok(None)) && self.present.pinned.contains(plugin) {
            self.now.pinned.insert(plugin.clone());
        }
        seen
    }

    /// A version that is not in the folder. Its bytes are requested once.
    pub(super) async fn kept(&mut self, plugin: &PluginName, digest: Digest) -> Result<Option<Seen>, String> {
        let key = (plugin.clone(), digest);
        if let Some(seen) = self.present.seen.get(&key).filter(|seen| seen.tries_left == 0) {
            let seen = seen.clone();
            self.note(plugin, &seen);
            return Ok(Some(seen));
        }
        let versions = self.decided.versions.as_ref().ok_or("no versions are kept")?;
        let file = versions.kept(plugin, digest).await?;
        Ok(self.see(file).await)
    }

    /// Compiles and describes the file, unless this was done for the same bytes. `None` while it is in
    /// progress.
    async fn see(&mut self, file: PluginFile) -> Option<Seen> {
        let plugin = file.plugin.clone();
        let before = self.present.seen.get(&(plugin.clone(), file.digest)).cloned();
        let seen = match before.filter(|seen| seen.signature == file.signature) {
            Some(seen) if seen.tries_left == 0 => seen,
            before => self.load(file, before.map(|seen| seen.tries_left)).await?,
        };
        self.note(&plugin, &seen);
        Some(seen)
    }

    async fn load(&mut self, file: PluginFile, tries_left: Option<u32>) -> Option<Seen> {
        let key = (file.plugin.clone(), file.digest);
        if self.now.loads.contains_key(&key) {
            return None;
        }
        let goes_on = self.present.loads.remove(&key).filter(|load| load.signature == file.signature);
        // An earlier scan has already waited for this load.
        let patience =
            self.patience.map(|patience| if goes_on.is_some() { Duration::ZERO } else { patience });
        let load = goes_on.unwrap_or_else(|| {
            let (signature, ended) = (file.signature.clone(), self.catalog.loaded.clone());
            Load::start(signature, Seen::load(self.catalog, self.decided, file, tries_left), ended)
        });
        match load.within(patience).await {
            Ok(seen) => Some(seen),
            Err(load) => {
                self.block(&key.0, "it is being compiled", None);
                self.now.loads.insert(key, load);
                None
            }
        }
    }

    fn note(&mut self, plugin: &PluginName, seen: &Seen) {
        if let Some(reason) = seen.unsigned.clone().filter(|_| seen.loaded.is_ok()) {
            self.report.trouble.unsigned.push(Skipped { file: format!("{plugin}.wasm"), reason });
        }
        self.now.seen.insert((plugin.clone(), seen.digest), seen.clone());
    }
}
