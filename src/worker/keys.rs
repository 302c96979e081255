//! What entries of a worker's tables are named by.

/// Place of a listener in the table of listeners. Stays the same over reloads.
pub(crate) type ListenerSlot = u32;
/// Place of an upstream in the table of upstreams. Stays the same over reloads.
pub(crate) type UpstreamSlot = u32;

/// A place in a table as a key. Tables are far smaller than the largest key.
pub(crate) fn key_of(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// Names a connection in the table of connections.
pub(crate) type ConnectionKey = u32;

/// Names a session to whoever has to find it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SessionId {
    /// Its key in the table.
    pub(crate) key: u32,
    /// That of its client's endpoint: a stale entry names nobody.
    pub(crate) generation: u32,
}
