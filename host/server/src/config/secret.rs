//! `[secrets]`: the sources of secrets. The file contains only names; the secrets are in variables
//! or in separate files.

use std::collections::BTreeMap;
use std::path::PathBuf;

use domain::secret::Secret;

use super::env::Environment;
use super::reader::{Located, Section};
use super::text;

/// The source of a secret's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    Env(String),
    File(PathBuf),
}

/// All secrets by name. A secret that could not be read keeps its name, so that references to it
/// are not reported, too.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    all: BTreeMap<String, (SecretSource, Option<Secret>)>,
}

/// A secret that a key refers to by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub name: String,
    pub secret: Secret,
}

impl Secrets {
    /// Names and sources for display, without the secrets.
    pub fn sources(&self) -> impl Iterator<Item = (&str, &SecretSource)> {
        self.all.iter().map(|(name, (source, _))| (name.as_str(), source))
    }

    /// The secret that `key` of a section names.
    pub fn named(&self, section: &mut Section<'_>, key: &'static str) -> Option<Named> {
        let found = section.text(key)?;
        self.find(section, &found)
    }

    pub fn find(&self, section: &Section<'_>, found: &Located<String>) -> Option<Named> {
        match self.all.get(&found.value) {
            Some((_, secret)) => Some(Named { name: found.value.clone(), secret: secret.clone()? }),
            None => {
                let what = format!("there is no secret {:?}", found.value);
                let known: Vec<&str> = self.all.keys().map(String::as_str).collect();
                let remedy = match known.as_slice() {
                    [] => "add it under [secrets], like name = { env = \"VARIABLE\" }".to_owned(),
                    known => format!("use one of: {}", known.join(", ")),
                };
                section.blame_found(found, what, remedy);
                None
            }
        }
    }
}

const REMEDY: &str = "say where it is: { env = \"VARIABLE\" } or { file = \"path\" }";

pub fn read(section: Section<'_>, environment: &Environment) -> Secrets {
    let mut all = BTreeMap::new();
    for (name, section) in section.sections() {
        if let Some((source, secret)) = one(section, environment) {
            all.insert(name, (source, secret));
        }
    }
    Secrets { all }
}

fn one(mut section: Section<'_>, environment: &Environment) -> Option<(SecretSource, Option<Secret>)> {
    let (env, file) = (section.text("env"), section.text("file"));
    let (found, source) = match (env, file) {
        (Some(found), None) => {
            let source = SecretSource::Env(found.value.clone());
            (found, source)
        }
        (None, Some(found)) => {
            let source = SecretSource::File(text::clean(&section.folder.join(&found.value)));
            (found, source)
        }
        _ => {
            section.blame("", "it has to say exactly once where the secret is", REMEDY);
            return None;
        }
    };
    let secret = content(&source, environment)
        .and_then(|text| Secret::new(text.trim_end_matches(['\r', '\n'])))
        .map_err(|what| section.blame_found(&found, what, remedy(&source)))
        .ok();
    section.finish();
    Some((source, secret))
}

fn content(source: &SecretSource, environment: &Environment) -> Result<String, String> {
    match source {
        SecretSource::Env(name) => match environment.get(name) {
            Some(value) => value.to_str().map(str::to_owned).ok_or_else(|| format!("{name} is not UTF-8")),
            None => Err(format!("the variable {name} is not set")),
        },
        SecretSource::File(file) => {
            std::fs::read_to_string(file).map_err(|e| format!("{} cannot be read: {e}", file.display()))
        }
    }
}

fn remedy(source: &SecretSource) -> &'static str {
    match source {
        SecretSource::Env(_) => "set it for the process, to the secret's text",
        SecretSource::File(_) => "name a file that holds the secret and nothing else",
    }
}
