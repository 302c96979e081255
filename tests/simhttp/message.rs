//! A small strict reader of HTTP/1.1 messages, independent of the one under test, and the bodies
//! that go with a number.

/// A message as far as it has come.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) start: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Its end was seen.
    pub(crate) is_whole: bool,
    /// Bytes that it took.
    pub(crate) used: usize,
}

impl Message {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn status(&self) -> u16 {
        let status = self.start.split(' ').nth(1);
        status.and_then(|text| text.parse().ok()).expect("a status")
    }
}

/// How a message without length and coding ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Otherwise {
    /// It has no body.
    Empty,
    /// With the connection, which has ended cleanly, or has not.
    Close { ended: bool },
}

/// Reads one message at the front of `bytes`; none while its head is incomplete.
pub(crate) fn read(bytes: &[u8], bodiless: bool, otherwise: Otherwise) -> Option<Message> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).expect("a head of text");
    assert!(!head.replace("\r\n", "").contains(['\r', '\n']), "{head:?}");
    let mut lines = head.split("\r\n");
    let start = lines.next().expect("a start line").to_owned();
    let fields: Vec<(String, String)> = lines
        .map(|line| {
            let (name, value) = line.split_once(": ").expect("a field line");
            (name.to_ascii_lowercase(), value.to_owned())
        })
        .collect();
    let mut message = Message {
        start,
        fields,
        body: Vec::new(),
        is_whole: false,
        used: end + 4,
    };
    let rest = &bytes[end + 4..];
    let length = message.field("content-length").map(str::to_owned);
    let coding = message.field("transfer-encoding").map(str::to_owned);
    assert!(length.is_none() || coding.is_none(), "two framings: {head}");
    match (bodiless, length, coding) {
        (true, _, _) => message.is_whole = true,
        (false, Some(length), _) => {
            let length: usize = length.parse().expect("a length");
            let count = length.min(rest.len());
            message.body.extend_from_slice(&rest[..count]);
            message.is_whole = count == length;
            message.used += count;
        }
        (false, None, Some(coding)) => {
            assert_eq!(coding, "chunked");
            read_chunks(rest, &mut message);
        }
        (false, None, None) => match otherwise {
            Otherwise::Empty => message.is_whole = true,
            Otherwise::Close { ended } => {
                message.body.extend_from_slice(rest);
                message.is_whole = ended;
                message.used += rest.len();
            }
        },
    }
    Some(message)
}

fn read_chunks(rest: &[u8], message: &mut Message) {
    let mut at = 0;
    loop {
        let line = rest[at..].windows(2).position(|window| window == b"\r\n");
        let Some(line) = line else {
            return;
        };
        let size = std::str::from_utf8(&rest[at..at + line]).expect("a size");
        let size = usize::from_str_radix(size, 16).expect("a chunk size");
        let data = at + line + 2;
        if size == 0 {
            if let Some(end) = rest.get(data..data + 2) {
                assert_eq!(end, b"\r\n", "no trailers were sent");
                message.is_whole = true;
                message.used += data + 2;
            }
            return;
        }
        let count = size.min(rest.len() - data);
        message.body.extend_from_slice(&rest[data..data + count]);
        if rest.len() < data + size + 2 {
            return;
        }
        assert_eq!(&rest[data + size..data + size + 2], b"\r\n");
        at = data + size + 2;
    }
}

/// The body that goes with a number.
pub(crate) fn body(number: u64, length: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

/// Bytes in chunked coding, with or without its end.
pub(crate) fn chunked(bytes: &[u8], piece: usize, is_ended: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for part in bytes.chunks(piece.max(1)) {
        out.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
    if is_ended {
        out.extend_from_slice(b"0\r\n\r\n");
    }
    out
}
