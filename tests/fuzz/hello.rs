//! What must hold of a ClientHello whatever its bytes are.

use weir::core::client_hello::{HelloLook, HelloReader, MESSAGE_BYTES_MAX};

/// Bytes that are looked at one by one, at most; beyond them in larger steps.
const SLOW_BYTES_MAX: usize = 2048;

/// However the bytes come they are the same, a hello or none; and as records of any length they
/// carry the same hello.
pub(crate) fn client_hello(bytes: &[u8]) {
    let (end, found) = slowly(bytes);
    let at_once = HelloReader::default().look(bytes);
    assert_eq!(at_once, found, "at once and in pieces");
    if end > 0 {
        let before = HelloReader::default().look(&bytes[..end - 1]);
        assert!(end > SLOW_BYTES_MAX || before == HelloLook::More);
    }
    let HelloLook::Hello(hello) = &found else {
        return;
    };
    if let Some(name) = &hello.server_name {
        let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
        assert!((1..=255).contains(&name.len()) && name.chars().all(is_part));
        assert!(!name.starts_with('.') && !name.ends_with('.') && !name.contains(".."));
    }
    assert!(hello.protocols().all(|it| !it.is_empty()));
    let message = message(&bytes[..end]);
    for bytes_max in [1, 2, 3, 4, 5, 50, MESSAGE_BYTES_MAX] {
        let split = records(&message, bytes_max);
        assert_eq!(HelloReader::default().look(&split), found);
    }
}

/// What the first bytes are that are more than a beginning, and how many that takes.
fn slowly(bytes: &[u8]) -> (usize, HelloLook) {
    let mut reader = HelloReader::default();
    let mut end = 0;
    loop {
        let found = reader.look(&bytes[..end]);
        if found != HelloLook::More || end == bytes.len() {
            return (end, found);
        }
        let step = if end < SLOW_BYTES_MAX { 1 } else { 97 };
        end = bytes.len().min(end + step);
    }
}

/// What the records of a good hello carry of its message.
fn message(bytes: &[u8]) -> Vec<u8> {
    let (mut all, mut rest) = (Vec::new(), bytes);
    while let Some(([_, _, _, high, low], after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(after.len());
        all.extend_from_slice(&after[..length]);
        rest = &after[length..];
        if all.len() >= 4 {
            let length = u32::from_be_bytes([0, all[1], all[2], all[3]]);
            let length = 4 + usize::try_from(length).expect("it fits");
            if length <= all.len() {
                all.truncate(length);
                break;
            }
        }
    }
    all
}

/// The message in records of so many bytes at most.
pub(crate) fn records(message: &[u8], bytes_max: usize) -> Vec<u8> {
    let mut all = Vec::new();
    for piece in message.chunks(bytes_max) {
        let length = u16::try_from(piece.len()).expect("it fits into a record");
        all.extend([22, 3, 1]);
        all.extend(length.to_be_bytes());
        all.extend_from_slice(piece);
    }
    all
}
