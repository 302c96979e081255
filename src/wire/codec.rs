//! Numbers, texts and lists as bytes, and back: what messages, bundles and a handover are made
//! of. Reading never trusts a length.
//!
//! What is asked for at a hundred places is not copied to each of them.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use crate::tls::material::Secret;

/// Puts values behind one another. They may be keys, of which nothing is left behind anywhere.
#[derive(Debug)]
pub(crate) struct Writer(Secret);

impl Default for Writer {
    fn default() -> Self {
        Self(Secret::new(Vec::new()))
    }
}

impl Writer {
    pub(crate) fn into_bytes(self) -> Secret {
        self.0
    }

    #[inline(never)]
    pub(crate) fn u8(&mut self, value: u8) {
        self.0.extend(&[value]);
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.u8(value.into());
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.0.extend(&value.to_le_bytes());
    }

    #[inline(never)]
    pub(crate) fn u32(&mut self, value: u32) {
        self.0.extend(&value.to_le_bytes());
    }

    #[inline(never)]
    pub(crate) fn u64(&mut self, value: u64) {
        self.0.extend(&value.to_le_bytes());
    }

    pub(crate) fn u128(&mut self, value: u128) {
        self.0.extend(&value.to_le_bytes());
    }

    /// A count, of things that are all in memory.
    pub(crate) fn count(&mut self, value: usize) {
        self.u32(u32::try_from(value).unwrap_or(u32::MAX));
    }

    #[inline(never)]
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.extend(bytes);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    pub(crate) fn path(&mut self, path: &Path) {
        self.bytes(path.as_os_str().as_bytes());
    }

    pub(crate) fn addresses(&mut self, addresses: &[SocketAddr]) {
        self.count(addresses.len());
        for address in addresses {
            self.text(&address.to_string());
        }
    }
}

/// Takes values off the front. None where they are missing or wrong.
#[derive(Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether everything has been read.
    pub(crate) fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }

    pub(crate) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    #[inline(never)]
    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    pub(crate) fn bool(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    #[inline(never)]
    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    #[inline(never)]
    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    pub(crate) fn u128(&mut self) -> Option<u128> {
        self.take().map(u128::from_le_bytes)
    }

    #[inline(never)]
    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        let (first, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(first)
    }

    pub(crate) fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }

    pub(crate) fn path(&mut self) -> Option<PathBuf> {
        let bytes = self.bytes()?.to_vec();
        Some(OsString::from_vec(bytes).into())
    }

    /// A list of what `one` reads. It grows with what is really there.
    pub(crate) fn list<T>(
        &mut self,
        mut one: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        let count = self.u32()?;
        let mut list = Vec::new();
        for _ in 0..count {
            list.push(one(self)?);
        }
        Some(list)
    }

    pub(crate) fn addresses(&mut self) -> Option<Vec<SocketAddr>> {
        self.list(|reader| reader.text()?.parse().ok())
    }
}
