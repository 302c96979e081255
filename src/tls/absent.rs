//! In place of `engine` where weir is built without TLS: whoever asks for it is told so, and there
//! is no connection of the kind.

use std::convert::Infallible;
use std::io::{ErrorKind, IoSlice};
use std::sync::Arc;

use crate::core::fault::Fault;
use crate::core::layer::{Kept, Layer, Sealed, Secured};
use crate::core::readiness::Io;
use crate::tls::fault::{ABSENT, Facts, IdentityFault, PemFault};
use crate::tls::material::{Identity, Secret, TicketKey};
use crate::tls::{ClientParts, Misdirection, ServerParts};

/// Says that there is no TLS.
///
/// # Errors
/// Always.
pub const fn certificates_in(_: &[u8]) -> Result<Vec<Vec<u8>>, PemFault> {
    Err(PemFault::Absent)
}

/// Says that there is no TLS.
///
/// # Errors
/// Always.
pub const fn revocations_in(_: &[u8]) -> Result<Vec<Vec<u8>>, PemFault> {
    Err(PemFault::Absent)
}

/// Says that there is no TLS.
///
/// # Errors
/// Always.
pub const fn key_in(_: &[u8]) -> Result<Secret, PemFault> {
    Err(PemFault::Absent)
}

/// Says that there is no TLS.
///
/// # Errors
/// Always.
pub const fn facts_of(_: &Identity) -> Result<Facts, IdentityFault> {
    Err(IdentityFault::Absent)
}

/// There are none.
#[derive(Debug, Default)]
pub struct TicketKeys(());

impl TicketKeys {
    /// Nothing is sealed.
    pub const fn set(&self, _: &[TicketKey]) {}
}

/// There are none.
#[derive(Debug)]
pub struct ServerSettings(Infallible);

impl ServerSettings {
    /// Says that there is no TLS.
    ///
    /// # Errors
    /// Always.
    pub fn new(_: &ServerParts<'_>, _: &Arc<TicketKeys>) -> Result<Self, String> {
        Err(ABSENT.to_owned())
    }

    /// Says that there is no TLS.
    ///
    /// # Errors
    /// Always.
    pub fn renewed(
        _: Option<&Self>,
        _: &ServerParts<'_>,
        _: &Arc<TicketKeys>,
    ) -> Result<Self, String> {
        Err(ABSENT.to_owned())
    }

    /// Never called.
    #[must_use]
    pub const fn is_of(&self, _: &ServerParts<'_>) -> bool {
        match self.0 {}
    }

    /// Never called.
    #[must_use]
    pub const fn handshake_us(&self, _: Option<&str>) -> u32 {
        match self.0 {}
    }

    /// Never called.
    #[must_use]
    pub const fn tells_clients_apart(&self) -> bool {
        match self.0 {}
    }

    /// Never called.
    #[must_use]
    pub const fn misdirection(&self, _: &str, _: &Secured<'_>) -> Option<Misdirection> {
        match self.0 {}
    }

    /// Never called.
    #[must_use]
    pub const fn client_rules(&self, _: Option<&str>) -> u64 {
        match self.0 {}
    }

    /// Never called.
    #[must_use]
    pub const fn accept(&self, _: Option<&str>) -> Option<Connection> {
        match self.0 {}
    }
}

/// There are none.
#[derive(Debug)]
pub struct ClientSettings(Infallible);

impl ClientSettings {
    /// Says that there is no TLS.
    ///
    /// # Errors
    /// Always.
    pub fn new(_: &ClientParts<'_>) -> Result<Self, String> {
        Err(ABSENT.to_owned())
    }

    /// Never called.
    #[must_use]
    pub const fn connect(&self, _: &str) -> Option<Connection> {
        match self.0 {}
    }

    /// Nobody is verified, so that no name is wrong for it.
    #[must_use]
    pub const fn is_name(_: &str) -> bool {
        true
    }
}

/// There is none.
#[derive(Debug)]
pub struct Connection(Infallible);

impl Layer for Connection {
    fn carry(&mut self, _: &mut [u8]) -> usize {
        match self.0 {}
    }

    fn on_received(&mut self, _: &mut [u8], _: &mut [u8]) -> Result<usize, ErrorKind> {
        match self.0 {}
    }

    fn on_end(&mut self) {
        match self.0 {}
    }

    fn read(&mut self, _: &mut [u8]) -> Io<usize> {
        match self.0 {}
    }

    fn may_read(&self) -> bool {
        match self.0 {}
    }

    fn has_ended(&self) -> bool {
        match self.0 {}
    }

    fn seal(&mut self, _: &[IoSlice<'_>], _: usize, _: &mut [u8]) -> Sealed {
        match self.0 {}
    }

    fn finish(&mut self) {
        match self.0 {}
    }

    fn pending(&self) -> &[u8] {
        match self.0 {}
    }

    fn on_sent(&mut self, _: usize) {
        match self.0 {}
    }

    fn keep_pending(&mut self, _: &[u8]) {
        match self.0 {}
    }

    fn kept(&self) -> Kept {
        match self.0 {}
    }

    fn kept_noted(&mut self) -> &mut Kept {
        match self.0 {}
    }

    fn has_partial(&self) -> bool {
        match self.0 {}
    }

    fn missing(&self) -> usize {
        match self.0 {}
    }

    fn record_bytes(&self, _: &[u8]) -> usize {
        match self.0 {}
    }

    fn is_established(&self) -> bool {
        match self.0 {}
    }

    fn work_left_us(&self) -> u32 {
        match self.0 {}
    }

    fn take_work_us(&mut self) -> u32 {
        match self.0 {}
    }

    fn fault(&self) -> Option<Fault> {
        match self.0 {}
    }

    fn secured(&self) -> Option<Secured<'_>> {
        match self.0 {}
    }
}
