//! What processes of weir leave or say to each other, as bytes and descriptors: the supervisor to
//! its workers, and one program to the next that takes its place.

pub(crate) mod bundle;
mod codec;
pub(crate) mod handover;
pub(crate) mod messages;
mod model;
pub(crate) mod value;
