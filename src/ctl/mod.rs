//! `weir ctl`: asks a weir that runs, and tells it what to do.

mod client;
mod json;
mod order;
mod report;
mod tables;
mod top;
mod verbs;
mod why;

pub use order::order;
pub use verbs::is_verb;
pub use verbs::run;
