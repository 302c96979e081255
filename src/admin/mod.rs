//! The admin door: what an operator, a monitor or a browser asks of a running weir, and what is
//! answered.
//!
//! A [`server::Server`] takes callers at a Unix socket, and at a TCP socket where one is
//! configured, and speaks HTTP/1.1 with them. What can be read off the board and the
//! [`outline::Outline`] of the configuration it answers itself, a part at a time; what is to be
//! done goes as an [`errand::Errand`] to the control loop, whose reply is waited for. It owns no
//! loop: a process on its own lets it turn in its own, and a supervisor keeps a child for it.

pub(crate) mod answer;
pub(crate) mod conversation;
pub(crate) mod errand;
pub(crate) mod guard;
pub(crate) mod json;
pub(crate) mod metrics;
pub(crate) mod observed;
pub(crate) mod outline;
pub(crate) mod page;
pub mod request;
pub(crate) mod resources;
mod routes;
pub(crate) mod server;
pub(crate) mod sessions;
pub(crate) mod status;
mod steady;
pub(crate) mod view;
pub(crate) mod why;
