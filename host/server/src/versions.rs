//! Versions of plugins as all hosts share them: what they are made of stands in the store, and so does whose version a
//! person decided for.

use std::sync::Arc;

use async_trait::async_trait;
use domain::clock::Clock;
use domain::id::{Digest, PluginName};
use sandbox::{KeptVersions, Pins, PluginFile};
use store::Store;
use store::plugins::{KeptFile, Pin};

pub struct SharedVersions {
    pub store: Arc<Store>,
    pub clock: Clock,
}

impl SharedVersions {
    /// What the sandbox needs of these pins.
    pub fn pins(self: &Arc<Self>, pins: &[Pin]) -> Pins {
        let wanted = pins.iter().map(|pin| (pin.plugin.clone(), pin.digest)).collect();
        Pins { wanted, versions: Some(self.clone()) }
    }
}

#[async_trait]
impl KeptVersions for SharedVersions {
    async fn keep(&self, file: &PluginFile) {
        let kept = KeptFile { bytes: file.bytes.clone(), signature: file.signature.clone() };
        let now = self.clock.now();
        if let Err(error) = self.store.keep_plugin_file(&file.plugin, file.digest, kept, now).await {
            let (plugin, digest) = (&file.plugin, file.digest.short());
            tracing::warn!(%plugin, %digest, %error, "a version is not kept: it cannot be pinned later");
        }
    }

    async fn kept(&self, plugin: &PluginName, digest: Digest) -> Result<PluginFile, String> {
        let pinned = |why: &str| format!("it is pinned to {}: {why}", digest.short());
        match self.store.plugin_file(plugin, digest).await {
            Ok(Some(KeptFile { bytes, signature })) => {
                let file = PluginFile::of(plugin.clone(), bytes, signature);
                if file.digest == digest {
                    Ok(file)
                } else {
                    Err(pinned("what the store keeps of it is not whole"))
                }
            }
            Ok(None) => Err(pinned("the store does not keep it")),
            Err(error) => Err(pinned(&format!("it cannot be read now: {error}"))),
        }
    }
}
