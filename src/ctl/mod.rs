//! `weir ctl`: asks a weir that runs, and tells it what to do.

mod client;
mod verbs;

pub use verbs::run;
