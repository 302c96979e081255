//! What processes of weir leave or say to each other, as bytes and descriptors: a supervisor and
//! its workers (`messages`; a `bundle` is a configuration with its sockets), and one program to the
//! next that takes its place (`handover`).

pub(crate) mod admin;
pub(crate) mod bundle;
mod codec;
pub(crate) mod handover;
pub(crate) mod messages;
mod model;
mod sessions;
pub(crate) mod value;
