//! What is to be sent, cut into records.

use std::io::IoSlice;

use crate::core::layer::Sealed;

/// What a record may carry: RFC 8446 section 5.1.
const PLAIN_BYTES_MAX: usize = 16 * 1024;
/// What a record adds at most: its head, an explicit nonce, the tag and the hidden type.
const RECORD_BYTES_ADDED: usize = 40;

/// What can be written, on either side.
pub(crate) trait Traffic {
    fn encrypt(&mut self, plain: &[u8], space: &mut [u8]) -> Option<usize>;
    fn end(&mut self, space: &mut [u8]) -> Option<usize>;
}

/// Seals as much as there is room for, each record as full as can be.
pub(crate) fn seal_traffic(
    traffic: &mut dyn Traffic,
    from: &[IoSlice<'_>],
    mut skipped: usize,
    space: &mut [u8],
    is_spent: &mut bool,
) -> Sealed {
    let mut sealed = Sealed::default();
    let (space, gathered) = space.split_at_mut(space.len().saturating_sub(PLAIN_BYTES_MAX));
    let behind = from.iter().map(|slice| {
        let (before, behind) = slice.split_at(skipped.min(slice.len()));
        skipped -= before.len();
        behind
    });
    let mut slices = behind.filter(|slice| !slice.is_empty()).peekable();
    while let Some(mut rest) = slices.next() {
        if slices.peek().is_some() && rest.len() < PLAIN_BYTES_MAX {
            // Short pieces become one record; what is left of the last goes by itself.
            let mut filled = 0;
            loop {
                let count = rest.len().min(gathered.len() - filled);
                gathered[filled..filled + count].copy_from_slice(&rest[..count]);
                filled += count;
                rest = &rest[count..];
                if !rest.is_empty() || filled == gathered.len() {
                    break;
                }
                let Some(next) = slices.next() else { break };
                rest = next;
            }
            if !seal_piece(traffic, &gathered[..filled], space, &mut sealed, is_spent) {
                return sealed;
            }
        }
        while !rest.is_empty() {
            let count = rest.len().min(PLAIN_BYTES_MAX);
            if !seal_piece(traffic, &rest[..count], space, &mut sealed, is_spent) {
                return sealed;
            }
            rest = &rest[count..];
        }
    }
    sealed
}

/// Seals one record's worth; false where there is no room for it.
fn seal_piece(
    traffic: &mut dyn Traffic,
    piece: &[u8],
    space: &mut [u8],
    sealed: &mut Sealed,
    is_spent: &mut bool,
) -> bool {
    let room = &mut space[sealed.bytes..];
    if room.len() < piece.len() + RECORD_BYTES_ADDED {
        return false;
    }
    match traffic.encrypt(piece, room) {
        Some(count) => {
            sealed.bytes += count;
            sealed.taken += piece.len();
            true
        }
        None => {
            *is_spent = true;
            false
        }
    }
}
