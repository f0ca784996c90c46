//! The result of loading a file: a version that can be called, or the reason why the file was rejected.

use std::sync::Arc;

use domain::id::Digest;
use tokio_util::task::AbortOnDropHandle;

use super::Catalog;
use crate::versions::compile::Refusal;
use crate::versions::component::{Loader, Version};
use crate::versions::decided::{Decided, Versions};
use crate::versions::folder::PluginFile;
use crate::versions::history::Facts;
use crate::versions::signature::Policy;

/// Maximum number of loads of a file that fail for a temporary reason. Each scan loads it again; scans are at
/// most 30 s apart.
const TRIES_MAX: u32 = 5;

/// The result of loading a file's bytes. Valid as long as the bytes are the same.
#[derive(Clone)]
pub struct Seen {
    pub digest: Digest,
    pub size_bytes: u64,
    pub signature: Option<String>,
    /// Why the file has no trusted signature.
    pub unsigned: Option<String>,
    pub loaded: Result<Arc<Version>, String>,
    /// Remaining attempts to load it. Zero unless the failure was temporary.
    pub tries_left: u32,
}

impl Seen {
    /// Compiles and describes the file. `tries_left` comes from an earlier, temporary failure.
    pub fn load(
        catalog: &Catalog,
        decided: &Decided,
        file: PluginFile,
        tries_left: Option<u32>,
    ) -> impl Future<Output = Seen> + Send + use<> {
        let signatures = &catalog.config.signatures;
        let unsigned = signatures.refuse(&file.bytes, file.signature.as_deref());
        let refused = unsigned.clone().filter(|_| signatures.policy == Policy::Required);
        let held = catalog.active_versions().holds(&file.plugin, file.digest);
        let (loader, versions) = (catalog.loader.clone(), decided.versions.clone());
        async move {
            let (digest, size_bytes, signature) =
                (file.digest, file.bytes.len() as u64, file.signature.clone());
            let loaded = match (refused, held) {
                (Some(why), _) => Err(Refusal::from(why)),
                (None, Some(version)) => Ok(version),
                (None, None) => {
                    let whole = async move { whole(&loader, versions, file).await };
                    // A panic of the host rejects only this version.
                    let whole = AbortOnDropHandle::new(tokio::spawn(whole)).await;
                    whole.unwrap_or_else(|panic| Err(Refusal::from(format!("the host failed: {panic}"))))
                }
            };
            let passing = loaded.as_ref().is_err_and(|refusal| refusal.passing);
            let tries_left = if passing { tries_left.unwrap_or(TRIES_MAX) - 1 } else { 0 };
            let loaded = loaded.map_err(|refusal| refusal.reason);
            Seen { digest, size_bytes, signature, unsigned, loaded, tries_left }
        }
    }

    /// A file that is too large to be read. Checked again at each scan, although the limit does not change
    /// while this host runs.
    pub fn too_large(digest: Digest, size_bytes: u64, why: String) -> Seen {
        Seen { digest, size_bytes, signature: None, unsigned: None, loaded: Err(why), tries_left: 0 }
    }

    pub fn facts(&self) -> Facts<'_> {
        match &self.loaded {
            Ok(version) => Facts::of(version),
            Err(_) => Facts { digest: self.digest, size_bytes: self.size_bytes, said: ("", ""), asks: None },
        }
    }
}

async fn whole(
    loader: &Loader,
    versions: Option<Arc<dyn Versions>>,
    file: PluginFile,
) -> Result<Arc<Version>, Refusal> {
    let loaded = loader.load(file.clone()).await.map(Arc::new);
    if let (Ok(_), Some(versions)) = (&loaded, versions) {
        versions.keep(&file).await;
    }
    loaded
}
