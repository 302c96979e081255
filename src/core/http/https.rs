//! What is said to clients that should speak https.

use super::reply::{Page, ReplyTo, TEXT, write_error};

/// Writes the answer to a request that came in the clear where TLS is spoken: 400, with a sentence.
pub(crate) fn write_not_tls(date: &[u8; 29], out: &mut Vec<u8>) {
    let page = Page {
        content_type: TEXT,
        body: b"400 Bad Request: this port speaks HTTPS, and the request came as plain HTTP.\n",
    };
    write_error(400, 0, Some(page), &ReplyTo::unread(date), out);
}
