//! HTTP/1.0 and HTTP/1.1 messages as an intermediary sees them (RFC 9110, RFC 9112), and the
//! policy of routing and forwarding them.
//!
//! Whatever two readers could understand differently is refused here or written out in one
//! form, so that a backend never sees another message than the one weir judged. Nothing here
//! owns bytes that arrived: heads are ranges into them, bodies are counted as they pass.

pub mod body;
pub mod budget;
pub mod claims;
pub mod client_cert;
pub mod exchange;
pub mod forwarded;
pub mod head;
pub(crate) mod https;
pub(crate) mod keep_alive;
pub mod known;
mod mend;
pub mod oddity;
pub mod path;
mod prefix;
pub mod reply;
pub mod rewrite;
pub mod route;
pub mod sticky;
pub mod syntax;
pub mod trace;
pub mod upstream_request;
