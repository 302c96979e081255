//! Packs a [`Target`] into the `mio::Token` of a registration, and back.
//!
//! A token is a `usize`. On 64-bit targets it is 3 bits of kind,
//! 29 bits of key and 32 bits of generation. On 32-bit targets the same three share 32 bits:
//! 3, 21 and 8. Eight bits of generation are enough there, because nothing is closed or opened
//! between a wait and the end of marking what it reported: an event that outlives its owner can
//! only be as old as one batch.

use mio::Token;

use crate::net::{GENERATION_MAX, KEY_MAX, Kind, Target};

const KEY_BITS: u32 = u32::BITS - KEY_MAX.leading_zeros();
const GENERATION_BITS: u32 = u32::BITS - GENERATION_MAX.leading_zeros();
const KIND_BITS: u32 = 3;

// The three parts fill a token and do not overlap.
const _: () = assert!(KIND_BITS + KEY_BITS + GENERATION_BITS == usize::BITS);

/// The token of `target`.
///
/// A key or generation beyond its maximum is cut, which the owner would not recognise: it is a
/// mistake of the caller and asserted in debug builds.
pub(super) fn pack(target: Target) -> Token {
    let kind = kind_code(target.kind) << (KEY_BITS + GENERATION_BITS);
    let key = widen(target.key & KEY_MAX) << GENERATION_BITS;
    let token = Token(kind | key | widen(target.generation & GENERATION_MAX));
    debug_assert_eq!(unpack(token), Some(target), "a part is too wide");
    token
}

/// The target of `token`; none when no [`pack`] made it.
pub(super) fn unpack(token: Token) -> Option<Target> {
    Some(Target {
        kind: kind_of(token.0 >> (KEY_BITS + GENERATION_BITS))?,
        key: narrow(token.0 >> GENERATION_BITS) & KEY_MAX,
        generation: narrow(token.0) & GENERATION_MAX,
    })
}

const fn kind_code(kind: Kind) -> usize {
    match kind {
        Kind::Control => 0,
        Kind::Listener => 1,
        Kind::Client => 2,
        Kind::Backend => 3,
        Kind::Probe => 4,
    }
}

const fn kind_of(code: usize) -> Option<Kind> {
    match code {
        0 => Some(Kind::Control),
        1 => Some(Kind::Listener),
        2 => Some(Kind::Client),
        3 => Some(Kind::Backend),
        4 => Some(Kind::Probe),
        _ => None,
    }
}

const fn widen(part: u32) -> usize {
    part as usize
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "the upper parts are cut on purpose and masked by the caller"
)]
const fn narrow(bits: usize) -> u32 {
    bits as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [Kind; 5] = [
        Kind::Control,
        Kind::Listener,
        Kind::Client,
        Kind::Backend,
        Kind::Probe,
    ];

    #[test]
    fn every_part_of_a_target_survives_the_round_trip() {
        for kind in KINDS {
            for key in [0, 1, 77, KEY_MAX] {
                for generation in [0, 1, GENERATION_MAX] {
                    let target = Target {
                        kind,
                        key,
                        generation,
                    };
                    assert_eq!(unpack(pack(target)), Some(target));
                }
            }
        }
    }

    #[test]
    fn a_token_of_no_kind_is_no_target() {
        assert_eq!(unpack(Token(usize::MAX)), None);
    }
}
