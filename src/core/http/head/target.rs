//! What a request target and `Host` are made of.

use crate::core::http::syntax::{ByteSet, decimal};

/// The length of `http://` or `https://` at the beginning.
pub(super) fn scheme_length(target: &[u8]) -> Option<usize> {
    [b"http://".as_slice(), b"https://"]
        .into_iter()
        .find(|scheme| {
            target
                .get(..scheme.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        })
        .map(<[u8]>::len)
}

/// The length of the host in `host [":" port]` (RFC 9110 section 7.2). An empty host is refused
/// (section 4.2.1), and so are user information and a comma: they are read in two ways.
pub(super) fn host_length(authority: &[u8]) -> Option<usize> {
    let length = if authority.first() == Some(&b'[') {
        let length = authority.iter().position(|&byte| byte == b']')? + 1;
        let inner = std::str::from_utf8(&authority[1..length - 1]).ok()?;
        inner.parse::<std::net::Ipv6Addr>().ok()?;
        length
    } else {
        let mut bytes = authority.iter();
        let length = bytes.position(|&byte| !HOST_BYTES.has(byte));
        let length = length.unwrap_or(authority.len());
        (length > 0).then_some(length)?
    };
    match &authority[length..] {
        [] => Some(length),
        [b':', port @ ..] => is_port(port).then_some(length),
        _ => None,
    }
}

/// `unreserved`, `sub-delims` but the comma, and `%` (RFC 3986 section 3.2.2).
static HOST_BYTES: ByteSet = ByteSet::alphanumeric_and(b"-._~%!$&'()*+;=");

fn is_port(text: &[u8]) -> bool {
    text.is_empty() || decimal(text).is_some_and(|port| port <= 65_535)
}

/// A visible byte that stands in no scheme and no host, nor by itself for a target.
const MASK: u8 = b'"';

/// Writes to `masked` the same head with [`MASK`] for each byte beyond ASCII in its target, if that
/// is no UTF-8: httparse wants targets to be text.
pub(super) fn mask_target(head: &[u8], masked: &mut Vec<u8>) -> bool {
    let from = |start: usize, wanted: fn(&u8) -> bool| {
        let found = head[start..].iter().position(wanted);
        found.map_or(head.len(), |at| start + at)
    };
    let method = from(0, |byte| !matches!(byte, b'\r' | b'\n'));
    let start = head.len().min(from(method, |&byte| byte == b' ') + 1);
    let end = from(start, |&byte| byte == b' ');
    if std::str::from_utf8(&head[start..end]).is_ok() {
        return false;
    }
    masked.clear();
    masked.extend_from_slice(head);
    for byte in masked[start..end].iter_mut().filter(|it| !it.is_ascii()) {
        *byte = MASK;
    }
    true
}
