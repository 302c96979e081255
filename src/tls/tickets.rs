//! Session tickets that no process has to remember: RFC 5077 section 4, RFC 8446 section 4.6.1.
//!
//! The keys come from outside and are the same in all workers. What a ticket was given for stands
//! in its seal, so that it opens nothing else: a listener, a site and its rules for clients. So
//! does the time of the full handshake that its session began with, which tickets of a session that
//! was resumed keep: however long a key is in use, no session is.

use std::cell::Cell;
use std::fmt;
use std::num::NonZeroU64;
use std::sync::{Arc, RwLock};
use std::time::SystemTime;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest;
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::tls::material::{TICKET_NAME_BYTES, TicketKey};

/// How long a session may be resumed, in seconds since its full handshake. RFC 8446 section 4.6.1
/// allows seven days.
const SESSION_LIFETIME_S: u32 = 12 * 60 * 60;
/// By how many seconds the clock of a host with the same keys may be ahead, or that of this one
/// have been.
const CLOCK_SKEW_MAX_S: u64 = 60;

/// When the full handshake of a session was, in seconds since 1970.
pub(crate) type Since = NonZeroU64;

thread_local! {
    /// Of the session whose handshake goes on in this thread, once a ticket was opened: the library
    /// says nothing of it when it asks for the next one.
    static SINCE: Cell<Option<Since>> = const { Cell::new(None) };
    #[cfg(test)]
    pub(super) static AHEAD_S: Cell<i64> = const { Cell::new(0) };
}

/// Does what may open or seal tickets of that session.
pub(crate) fn within<T>(session: &mut Option<Since>, act: impl FnOnce() -> T) -> T {
    SINCE.set(*session);
    let done = act();
    *session = SINCE.take();
    done
}

/// By a clock that may be wrong, and may be set.
fn now_unix_s() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = since.map_or(0, |it| it.as_secs());
    #[cfg(test)]
    let now = now.saturating_add_signed(AHEAD_S.get());
    now
}

/// For how many seconds the session may still be resumed; none where that is over, or it would
/// begin later: then the clock was wrong, and nobody knows when it was.
fn left_s(since: Since, now_unix_s: u64) -> Option<u32> {
    if since.get() > now_unix_s.saturating_add(CLOCK_SKEW_MAX_S) {
        return None;
    }
    let age = u32::try_from(now_unix_s.saturating_sub(since.get())).ok()?;
    SESSION_LIFETIME_S.checked_sub(age)
}

/// Keys in use: the first seals, all open.
#[derive(Default)]
pub struct TicketKeys(RwLock<Vec<([u8; TICKET_NAME_BYTES], LessSafeKey)>>);

impl fmt::Debug for TicketKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TicketKeys")
    }
}

impl TicketKeys {
    /// These keys instead of those that were there. Of another length they are left out.
    pub fn set(&self, keys: &[TicketKey]) {
        let keys = keys.iter().filter_map(|key| {
            let unbound = UnboundKey::new(&AES_256_GCM, key.secret.bytes()).ok()?;
            Some((key.name, LessSafeKey::new(unbound)))
        });
        if let Ok(mut all) = self.0.write() {
            *all = keys.collect();
        }
    }

    fn seal(&self, plain: &[u8], purpose: &[u8]) -> Option<Vec<u8>> {
        let keys = self.0.read().ok()?;
        let (name, key) = keys.first()?;
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let mut sealed = plain.to_vec();
        let bound = Nonce::assume_unique_for_key(nonce);
        key.seal_in_place_append_tag(bound, Aad::from(purpose), &mut sealed)
            .ok()?;
        Some([name.as_slice(), &nonce, &sealed].concat())
    }

    fn open(&self, ticket: &[u8], purpose: &[u8]) -> Option<Vec<u8>> {
        let (wanted, rest) = ticket.split_first_chunk::<TICKET_NAME_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let keys = self.0.read().ok()?;
        let (_, key) = keys.iter().find(|(name, _)| name == wanted)?;
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = key.open_in_place(nonce, Aad::from(purpose), &mut sealed);
        let length = opened.ok()?.len();
        sealed.truncate(length);
        Some(sealed)
    }
}

/// Tickets for one purpose.
#[derive(Debug)]
pub(crate) struct Tickets {
    keys: Arc<TicketKeys>,
    purpose: Box<[u8]>,
}

impl Tickets {
    /// Tickets that are good for this purpose alone.
    pub(crate) const fn new(keys: Arc<TicketKeys>, purpose: Box<[u8]>) -> Self {
        Self { keys, purpose }
    }

    /// How long a ticket may be used that is sealed now, in seconds.
    pub(crate) fn lifetime_s() -> u32 {
        let since = SINCE.get();
        since.map_or(SESSION_LIFETIME_S, |it| {
            left_s(it, now_unix_s()).unwrap_or(0)
        })
    }

    /// Seals what a session is resumed from.
    pub(crate) fn seal(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let now = now_unix_s();
        let since = SINCE.get().or_else(|| Since::new(now))?;
        left_s(since, now)?;
        let dated = [&since.get().to_be_bytes(), plain].concat();
        self.keys.seal(&dated, &self.purpose)
    }

    /// Opens what was sealed for the same purpose, in a session that is not over.
    pub(crate) fn open(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let dated = self.keys.open(ticket, &self.purpose)?;
        let (since, plain) = dated.split_first_chunk()?;
        let since = Since::new(u64::from_be_bytes(*since))?;
        left_s(since, now_unix_s())?;
        // Of several that a client offers, the oldest counts.
        let oldest = SINCE.get().map_or(since, |known| known.min(since));
        SINCE.set(Some(oldest));
        Some(plain.to_vec())
    }
}

/// What tickets of a site are good for: a listener, and the names of the site.
pub(crate) fn purpose<'a>(listener: &str, names: impl Iterator<Item = &'a String>) -> Box<[u8]> {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(listener.as_bytes());
    for name in names {
        context.update(&[0]);
        context.update(name.as_bytes());
    }
    context.finish().as_ref().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::material::Secret;

    fn key(number: u8) -> TicketKey {
        TicketKey {
            name: [number; 16],
            secret: Secret::new(vec![number; 32]),
        }
    }

    fn tickets(keys: &[TicketKey], purpose: &str) -> Tickets {
        let all = TicketKeys::default();
        all.set(keys);
        Tickets::new(Arc::new(all), purpose.as_bytes().into())
    }

    #[test]
    fn a_ticket_opens_with_its_key_and_purpose_only() {
        let old = tickets(&[key(1)], "a");
        let ticket = old.seal(b"state").expect("a key");
        assert_eq!(old.open(&ticket).as_deref(), Some(&b"state"[..]));
        let turned = tickets(&[key(2), key(1)], "a");
        assert_eq!(turned.open(&ticket).as_deref(), Some(&b"state"[..]));
        assert_eq!(tickets(&[key(1)], "b").open(&ticket), None);
        assert_eq!(tickets(&[key(2)], "a").open(&ticket), None);
        for at in 0..ticket.len() {
            let mut flipped = ticket.clone();
            flipped[at] ^= 1;
            assert_eq!(old.open(&flipped), None);
            assert_eq!(old.open(&ticket[..at]), None);
        }
    }

    /// At that many seconds after now.
    fn at<T>(ahead_s: i64, act: impl FnOnce() -> T) -> T {
        AHEAD_S.set(ahead_s);
        let done = within(&mut None, act);
        AHEAD_S.set(0);
        done
    }

    #[test]
    fn a_ticket_is_good_for_its_time_by_a_clock_that_is_right() {
        let tickets = tickets(&[key(1)], "a");
        let ticket = tickets.seal(b"state").expect("a key");
        let life = i64::from(SESSION_LIFETIME_S);
        const YEAR_S: i64 = 366 * 24 * 60 * 60;
        // Between two lines of this test a second may begin.
        for (ahead_s, is_good) in [
            (0, true),
            (life - 5, true),
            (life + 5, false),
            (YEAR_S, false),
            (200 * YEAR_S, false),
            (5 - 60, true),
            (-5 - 60, false),
            (-YEAR_S, false),
            (-100 * YEAR_S, false),
        ] {
            let opened = at(ahead_s, || tickets.open(&ticket));
            assert_eq!(opened.is_some(), is_good, "{ahead_s}");
        }
        // In 1970 there is no time yet.
        assert_eq!(at(-100 * YEAR_S, || tickets.seal(b"state")), None);
    }

    #[test]
    fn a_session_that_is_resumed_over_and_over_ends_with_its_time() {
        let tickets = tickets(&[key(1)], "a");
        let mut ticket = tickets.seal(b"state").expect("a key");
        let hours = i64::from(SESSION_LIFETIME_S / 3600);
        for hour in 1..hours {
            let (next, left) = at(hour * 3600, || {
                tickets.open(&ticket).expect("it is not over");
                (tickets.seal(b"state"), Tickets::lifetime_s())
            });
            ticket = next.expect("a key");
            let whole = u32::try_from((hours - hour) * 3600).expect("it fits");
            assert!((whole - 5..=whole).contains(&left), "{left} at {hour}");
        }
        assert_eq!(at(hours * 3600 + 5, || tickets.open(&ticket)), None);
        let ends = within(&mut Since::new(1), || {
            (tickets.seal(b"state"), Tickets::lifetime_s())
        });
        assert_eq!(ends, (None, 0), "it was over meanwhile");
    }

    #[test]
    fn without_keys_there_are_no_tickets() {
        assert_eq!(tickets(&[], "a").seal(b"state"), None);
    }
}
