//! From a YAML file to a complete model, or to every error in it.

pub mod model;
