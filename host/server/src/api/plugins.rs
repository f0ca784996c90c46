//! Versions of plugins as this host knows them.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use domain::plugin::{PluginVersion, VersionState};

use sandbox::Skipped;

use super::AppState;
use super::types::{Plugin, Plugins, SkippedFile};

pub fn router() -> Router<AppState> {
    Router::new().route("/api/v1/plugins", get(list))
}

async fn list(State(state): State<AppState>) -> Json<Plugins> {
    let plugins = state.sandbox.versions().into_iter().map(view).collect();
    let trouble = state.sandbox.trouble();
    let files = |files: &[Skipped]| {
        files.iter().map(|one| SkippedFile { file: one.file.clone(), reason: one.reason.clone() }).collect()
    };
    Json(Plugins {
        problem: trouble.problem.clone(),
        warning: trouble.warning.clone(),
        skipped: files(&trouble.skipped),
        unsigned: files(&trouble.unsigned),
        allocator: state.sandbox.allocator().to_owned(),
        plugins,
    })
}

fn view(version: PluginVersion) -> Plugin {
    let (state, reason) = match version.state {
        VersionState::Active => ("active", None),
        VersionState::Retired => ("retired", None),
        VersionState::Rejected(reason) => ("rejected", Some(reason)),
    };
    Plugin {
        plugin: version.plugin.to_string(),
        digest: version.digest.to_string(),
        size_bytes: version.size_bytes,
        version: version.version,
        summary: version.summary,
        state: state.to_owned(),
        reason,
        seen_at: version.seen_at,
    }
}
