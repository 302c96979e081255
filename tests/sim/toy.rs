//! A toy of a record layer, as far from plain bytes as TLS is: lengths before, a trailer behind,
//! other bytes in between, a mark of the end of its own, and bytes that stay inside when the
//! socket is empty.

use std::io::{ErrorKind, IoSlice};

use weir::core::fault::Fault;
use weir::core::layer::{Kept, Layer, Sealed, Secured};
use weir::core::readiness::Io;

/// What a record may carry: little, so that everything takes several.
const PAYLOAD_BYTES_MAX: usize = 300;
const HEAD_BYTES: usize = 3;
const TRAILER_BYTES: usize = 1;
/// Sealed at once.
const SEALED_BYTES_MAX: usize = 4 * PAYLOAD_BYTES_MAX;

const DATA: u8 = 0xd0;
const END: u8 = 0xe0;
/// Carries nothing, as a session ticket of TLS does.
const NOTE: u8 = 0xa0;
/// Likewise, and wants a note back, as an update of keys may.
const ASK: u8 = 0xb0;
const MASK: u8 = 0x5a;

/// Writes a record for each piece of what is to be sent.
pub(crate) fn seal(mut bytes: &[u8], out: &mut Vec<u8>) {
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(bytes.len().min(PAYLOAD_BYTES_MAX));
        write_record(DATA, piece, out);
        bytes = rest;
    }
}

/// Writes a record that carries nothing.
pub(crate) fn seal_note(out: &mut Vec<u8>) {
    write_record(NOTE, &[], out);
}

/// Writes one that wants an answer.
pub(crate) fn seal_ask(out: &mut Vec<u8>) {
    write_record(ASK, &[], out);
}

/// Writes the mark of the end.
pub(crate) fn seal_end(out: &mut Vec<u8>) {
    write_record(END, &[], out);
}

fn write_record(kind: u8, payload: &[u8], out: &mut Vec<u8>) {
    let length = u16::try_from(payload.len()).expect("a short payload");
    out.push(kind);
    out.extend(length.to_be_bytes());
    out.extend(payload.iter().map(|byte| byte ^ MASK));
    out.push(trailer(payload));
}

fn trailer(payload: &[u8]) -> u8 {
    payload
        .iter()
        .fold(0x11, |sum: u8, &byte| sum.rotate_left(1) ^ byte)
}

/// Opens records, however their bytes come.
#[derive(Debug, Default)]
pub(crate) struct Opener {
    wire: Vec<u8>,
    pub(crate) has_ended: bool,
    /// Records that carried nothing, and those of them that want an answer which is still to be
    /// given.
    pub(crate) notes: usize,
    asks: usize,
}

impl Opener {
    /// More bytes came: what they carry goes to `plain`.
    pub(crate) fn open(&mut self, bytes: &[u8], plain: &mut Vec<u8>) -> Result<(), ErrorKind> {
        self.wire.extend_from_slice(bytes);
        while let Some(head) = self.wire.first_chunk::<HEAD_BYTES>() {
            let [kind, high, low] = *head;
            let length = usize::from(u16::from_be_bytes([high, low]));
            let whole = HEAD_BYTES + length + TRAILER_BYTES;
            if length > PAYLOAD_BYTES_MAX
                || !matches!(kind, DATA | END | NOTE | ASK)
                || self.has_ended
            {
                return Err(ErrorKind::InvalidData);
            }
            if self.wire.len() < whole {
                break;
            }
            let start = plain.len();
            let payload = &self.wire[HEAD_BYTES..HEAD_BYTES + length];
            plain.extend(payload.iter().map(|byte| byte ^ MASK));
            if self.wire[whole - 1] != trailer(&plain[start..]) {
                return Err(ErrorKind::InvalidData);
            }
            self.has_ended = kind == END;
            self.notes += usize::from(kind == NOTE);
            self.asks += usize::from(kind == ASK);
            self.wire.drain(..whole);
        }
        Ok(())
    }
}

/// The worker's side of a connection.
#[derive(Debug, Default)]
pub(crate) struct Toy {
    opener: Opener,
    plain: Vec<u8>,
    /// The socket has ended before the mark came.
    is_cut: bool,
    /// The end, or that it was cut, was told.
    is_told: bool,
    pending: Vec<u8>,
    is_finished: bool,
    kept_noted: Kept,
}

impl Layer for Toy {
    fn carry(&mut self, space: &mut [u8]) -> usize {
        let wire = std::mem::take(&mut self.opener.wire);
        space[..wire.len()].copy_from_slice(&wire);
        wire.len()
    }

    fn on_received(&mut self, space: &mut [u8], into: &mut [u8]) -> Result<usize, ErrorKind> {
        self.opener.open(space, &mut self.plain)?;
        for _ in 0..std::mem::take(&mut self.opener.asks) {
            if !self.is_finished {
                seal_note(&mut self.pending);
            }
        }
        Ok(self.give(into))
    }

    fn on_end(&mut self) {
        self.is_cut |= !self.opener.has_ended;
    }

    fn read(&mut self, into: &mut [u8]) -> Io<usize> {
        assert!(!into.is_empty(), "a read of nothing cannot tell the end");
        if !self.plain.is_empty() {
            return Io::Ready(self.give(into));
        }
        if self.opener.has_ended {
            self.is_told = true;
            return Io::Closed;
        }
        if self.is_cut {
            self.is_told = true;
            return Io::Failed(ErrorKind::UnexpectedEof);
        }
        Io::Blocked
    }

    fn may_read(&self) -> bool {
        !self.plain.is_empty() || (self.has_ended() && !self.is_told)
    }

    fn has_ended(&self) -> bool {
        self.opener.has_ended || self.is_cut
    }

    fn seal(&mut self, from: &[IoSlice<'_>], mut skipped: usize, space: &mut [u8]) -> Sealed {
        assert!(!self.is_finished, "nothing is sent after the end");
        let mut records = Vec::new();
        let mut taken = 0;
        for slice in from {
            let behind = &slice[skipped.min(slice.len())..];
            skipped -= slice.len() - behind.len();
            let room = SEALED_BYTES_MAX - taken;
            let piece = &behind[..behind.len().min(room)];
            seal(piece, &mut records);
            taken += piece.len();
        }
        space[..records.len()].copy_from_slice(&records);
        Sealed {
            taken,
            bytes: records.len(),
        }
    }

    fn finish(&mut self) {
        assert!(!self.is_finished, "the end is marked once");
        self.is_finished = true;
        seal_end(&mut self.pending);
    }

    fn pending(&self) -> &[u8] {
        &self.pending
    }

    fn on_sent(&mut self, count: usize) {
        self.pending.drain(..count);
    }

    fn keep_pending(&mut self, sealed: &[u8]) {
        self.pending.extend_from_slice(sealed);
    }

    fn kept(&self) -> Kept {
        Kept {
            ahead: 0,
            input: self.opener.wire.len() + self.missing() + self.plain.len(),
            output: self.pending.len(),
        }
    }

    fn kept_noted(&mut self) -> &mut Kept {
        &mut self.kept_noted
    }

    fn has_partial(&self) -> bool {
        !self.opener.wire.is_empty()
    }

    fn missing(&self) -> usize {
        match &self.opener.wire[..] {
            [] => 0,
            wire => self.record_bytes(wire).saturating_sub(wire.len()),
        }
    }

    fn record_bytes(&self, bytes: &[u8]) -> usize {
        let payload = match bytes.first_chunk::<HEAD_BYTES>() {
            Some(&[_, high, low]) => usize::from(u16::from_be_bytes([high, low])),
            None => PAYLOAD_BYTES_MAX,
        };
        match payload > PAYLOAD_BYTES_MAX {
            true => bytes.len(),
            false => HEAD_BYTES + payload + TRAILER_BYTES,
        }
    }

    fn is_established(&self) -> bool {
        true
    }

    fn work_left_us(&self) -> u32 {
        0
    }

    fn take_work_us(&mut self) -> u32 {
        0
    }

    fn fault(&self) -> Option<Fault> {
        None
    }

    fn secured(&self) -> Option<Secured<'_>> {
        None
    }
}

impl Toy {
    fn give(&mut self, into: &mut [u8]) -> usize {
        let count = self.plain.len().min(into.len());
        into[..count].copy_from_slice(&self.plain[..count]);
        self.plain.drain(..count);
        count
    }
}
