//! The resolved configuration as YAML: the full form with every default, which compiles back to
//! the same model.

use super::key::{Shown, written};
use super::model::{Config, Sticky};
use super::top::TOP;
use super::tree::Tree;

/// What stands for a secret.
const MASK: &str = "(masked)";

/// The same for eyes that are to see no secret.
#[must_use]
pub(crate) fn render_masked(config: &Config) -> String {
    let mut config = config.clone();
    for upstream in &mut config.upstreams {
        if let Some(Sticky::Insert(cookie)) = &mut upstream.sticky {
            MASK.clone_into(&mut cookie.secret);
        }
    }
    render(&config)
}

/// Renders a configuration. Secrets are part of it.
#[must_use]
pub fn render(config: &Config) -> String {
    Tree::document(&written(TOP, config, &Shown::all_of(config)))
}
