//! The keys of session tickets that weir makes and turns itself: they are in memory only, and the
//! same in all who serve.

use std::io;

use crate::sys::random;
use crate::tls::material::{Secret, TICKET_NAME_BYTES, TICKET_SECRET_BYTES, TicketKey};

/// How long a key encrypts, in minutes.
const TURN_MINUTES: u32 = 6 * 60;
/// Keys that only decrypt: tickets are good for as long as two turns take.
const PREVIOUS_MAX: usize = 2;

/// The keys, the first of which encrypts, and how long that has done so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TicketRing {
    pub(crate) keys: Vec<TicketKey>,
    pub(crate) minutes: u32,
}

impl TicketRing {
    /// A minute has passed; whether there are other keys than before. The first time there are.
    ///
    /// # Errors
    /// When the kernel gives no random bytes; then they are as they were.
    pub(super) fn on_minute(&mut self) -> io::Result<bool> {
        self.minutes = self.minutes.saturating_add(1);
        if !self.keys.is_empty() && self.minutes < TURN_MINUTES {
            return Ok(false);
        }
        let mut name = [0; TICKET_NAME_BYTES];
        let mut secret = vec![0; TICKET_SECRET_BYTES];
        random::fill(&mut name)?;
        random::fill(&mut secret)?;
        let secret = Secret::new(secret);
        self.keys.truncate(PREVIOUS_MAX);
        self.keys.insert(0, TicketKey { name, secret });
        self.minutes = 0;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_turn_and_two_of_before_still_decrypt() {
        let mut ring = TicketRing::default();
        let mut first = Vec::new();
        for minute in 0..=5 * TURN_MINUTES {
            let turns = ring.on_minute().expect("random bytes");
            assert_eq!(turns, minute % TURN_MINUTES == 0, "{minute}");
            if turns {
                first.insert(0, ring.keys[0].clone());
            }
            assert_eq!(ring.keys, first[..first.len().min(3)], "{minute}");
        }
        first.sort_by_key(|key| key.name);
        first.dedup_by_key(|key| key.name);
        assert_eq!(first.len(), 6, "each is another one");
    }
}
