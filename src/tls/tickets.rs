//! Session tickets that no process has to remember: RFC 5077 section 4, RFC 8446 section 4.6.1.
//!
//! The keys come from outside and are the same in all workers. What a ticket was given for stands
//! in its seal, so that it opens nothing else: a listener, a site and its rules for clients.

use std::fmt;
use std::sync::{Arc, RwLock};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest;
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::tls::material::{TICKET_NAME_BYTES, TicketKey};

/// How long a ticket may be used, in seconds.
pub(crate) const TICKET_LIFETIME_S: u32 = 12 * 60 * 60;

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

    /// Seals what a session is resumed from.
    pub(crate) fn seal(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.keys.seal(plain, &self.purpose)
    }

    /// Opens what was sealed for the same purpose.
    pub(crate) fn open(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.keys.open(ticket, &self.purpose)
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

    #[test]
    fn without_keys_there_are_no_tickets() {
        assert_eq!(tickets(&[], "a").seal(b"state"), None);
    }
}
