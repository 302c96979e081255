//! A request as it was received, and what is known of one that weir answers itself.

use crate::core::http::head::RequestHead;
use crate::core::time::Moment;
use crate::worker::site::Site;

/// A request whose head was parsed, with the bytes it lies in.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) head: &'a RequestHead,
    /// What the head was parsed from, and whatever followed it.
    pub(super) bytes: &'a [u8],
    /// Where the head ends.
    pub(super) head_bytes: usize,
}

impl<'a> Request<'a> {
    /// What followed the head.
    pub(super) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.head_bytes..]
    }

    pub(super) fn host(&self) -> &'a [u8] {
        self.head.authority(self.bytes)
    }
}

/// An answer of weir's own to a request whose head is whole.
pub(super) struct OwnAnswer<'a> {
    pub(super) request: Request<'a>,
    pub(super) site: &'a Site,
    /// The route that matched.
    pub(super) route: Option<usize>,
    /// When the request began.
    pub(super) began: Moment,
    /// Whether the connection can go on.
    pub(super) keep: bool,
}
