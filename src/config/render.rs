//! The resolved configuration as YAML: the full form with every default, which compiles back to
//! the same model.

use super::key::{Shown, written};
use super::model::Config;
use super::top::TOP;
use super::tree::Tree;

/// Renders a configuration. Secrets are part of it.
#[must_use]
pub fn render(config: &Config) -> String {
    Tree::document(&written(TOP, config, &Shown::all_of(config)))
}
