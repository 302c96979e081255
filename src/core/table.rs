//! The kinds of things that are counted apart, each in a table of its own.

/// A kind of thing that has counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Table {
    /// Listeners.
    Listeners = 0,
    /// Upstreams.
    Upstreams,
    /// Backends.
    Backends,
    /// Routes of HTTP listeners.
    Routes,
    /// Handshakes of listeners with TLS.
    Handshakes,
}

impl Table {
    /// All of them, in the order of their numbers.
    pub(crate) const ALL: [Self; 5] = [
        Self::Listeners,
        Self::Upstreams,
        Self::Backends,
        Self::Routes,
        Self::Handshakes,
    ];
}
