//! Values as bytes, and back: plain ones here, whole types by a list of their parts.
//!
//! A list must name every part, or it does not compile. What is read has been written by the same
//! lists, which whoever reads makes sure of ([`fingerprint`]).
//!
//! Nothing here is done often, so that being small counts: no part is inlined into others.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::tls::material::Secret;
use crate::wire::codec::{Reader, Writer};

/// What can be put into bytes.
pub(crate) trait WireValue: Sized {
    fn write(&self, to: &mut Writer);

    /// None where it is not there, or is no such value.
    fn read(from: &mut Reader<'_>) -> Option<Self>;

    /// Several of them.
    #[inline(never)]
    fn write_list(list: &[Self], to: &mut Writer) {
        to.count(list.len());
        for value in list {
            value.write(to);
        }
    }

    /// The same back.
    #[inline(never)]
    fn read_list(from: &mut Reader<'_>) -> Option<Vec<Self>> {
        from.list(Self::read)
    }
}

/// All that a value says.
pub(crate) fn to_bytes(value: &impl WireValue) -> Vec<u8> {
    let mut to = Writer::default();
    value.write(&mut to);
    to.into_bytes().bytes().to_vec()
}

/// Values that are structures: their fields, in turn.
macro_rules! structures {
    ($($type:ident { $($field:ident),+ $(,)? })+) => {$(
        impl $crate::wire::value::WireValue for $type {
            #[inline(never)]
            fn write(&self, to: &mut $crate::wire::codec::Writer) {
                let Self { $($field),+ } = self;
                $($crate::wire::value::WireValue::write($field, to);)+
            }

            #[inline(never)]

            fn read(from: &mut $crate::wire::codec::Reader<'_>) -> Option<Self> {
                Some(Self { $($field: $crate::wire::value::WireValue::read(from)?),+ })
            }
        }
    )+};
}

/// Values that are one of several: a number for each, and what it holds.
macro_rules! choices {
    ($($type:ident {
        $($tag:literal = $variant:ident $(($inner:ident))? $({ $($field:ident),+ })?),+ $(,)?
    })+) => {$(
        impl $crate::wire::value::WireValue for $type {
            #[inline(never)]
            fn write(&self, to: &mut $crate::wire::codec::Writer) {
                match self {
                    $(Self::$variant $(($inner))? $({ $($field),+ })? => {
                        to.u8($tag);
                        $($crate::wire::value::WireValue::write($inner, to);)?
                        $($($crate::wire::value::WireValue::write($field, to);)+)?
                    })+
                }
            }

            #[inline(never)]

            fn read(from: &mut $crate::wire::codec::Reader<'_>) -> Option<Self> {
                Some(match from.u8()? {
                    $($tag => {
                        $(let $inner = $crate::wire::value::WireValue::read(from)?;)?
                        $($(let $field = $crate::wire::value::WireValue::read(from)?;)+)?
                        Self::$variant $(($inner))? $({ $($field),+ })?
                    })+
                    _ => return None,
                })
            }
        }
    )+};
}

pub(super) use {choices, structures};

/// Tells lists apart (FNV-1a).
pub(super) const fn fingerprint(text: &str) -> u64 {
    let bytes = text.as_bytes();
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0100_0000_01b3);
        at += 1;
    }
    hash
}

macro_rules! numbers {
    ($($type:ident $write:ident)+) => {$(
        impl WireValue for $type {
            fn write(&self, to: &mut Writer) {
                to.$write(*self);
            }

            fn read(from: &mut Reader<'_>) -> Option<Self> {
                from.$write()
            }
        }
    )+};
}

numbers! { bool bool u16 u16 u32 u32 u64 u64 }

impl WireValue for u8 {
    fn write(&self, to: &mut Writer) {
        to.u8(*self);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.u8()
    }

    /// The same bytes as one by one, of which there may be millions: certificates are some.
    fn write_list(list: &[Self], to: &mut Writer) {
        to.bytes(list);
    }

    fn read_list(from: &mut Reader<'_>) -> Option<Vec<Self>> {
        from.bytes().map(<[_]>::to_vec)
    }
}

impl WireValue for i32 {
    fn write(&self, to: &mut Writer) {
        to.u32(self.cast_unsigned());
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.u32().map(u32::cast_signed)
    }
}

impl WireValue for i64 {
    fn write(&self, to: &mut Writer) {
        to.u64(self.cast_unsigned());
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.u64().map(u64::cast_signed)
    }
}

impl WireValue for Secret {
    fn write(&self, to: &mut Writer) {
        to.bytes(self.bytes());
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.bytes().map(|bytes| Self::new(bytes.to_vec()))
    }
}

impl<const N: usize> WireValue for [u8; N] {
    fn write(&self, to: &mut Writer) {
        self.iter().for_each(|byte| to.u8(*byte));
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.take()
    }
}

impl WireValue for usize {
    fn write(&self, to: &mut Writer) {
        to.u64(*self as u64);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.u64()?.try_into().ok()
    }
}

impl WireValue for String {
    #[inline(never)]
    fn write(&self, to: &mut Writer) {
        to.text(self);
    }

    #[inline(never)]
    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.text()
    }
}

impl WireValue for PathBuf {
    fn write(&self, to: &mut Writer) {
        to.path(self);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.path()
    }
}

impl WireValue for Duration {
    #[inline(never)]
    fn write(&self, to: &mut Writer) {
        to.u64(self.as_secs());
        to.u32(self.subsec_nanos());
    }

    #[inline(never)]
    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let (seconds, nanos) = (from.u64()?, from.u32()?);
        Self::from_secs(seconds).checked_add(Self::from_nanos(nanos.into()))
    }
}

impl WireValue for IpAddr {
    #[inline(never)]
    fn write(&self, to: &mut Writer) {
        match self {
            Self::V4(ip) => {
                to.bool(false);
                to.u32((*ip).into());
            }
            Self::V6(ip) => {
                to.bool(true);
                to.u128((*ip).into());
            }
        }
    }

    #[inline(never)]
    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(if from.bool()? {
            Self::V6(from.u128()?.into())
        } else {
            Self::V4(from.u32()?.into())
        })
    }
}

impl WireValue for SocketAddr {
    #[inline(never)]
    fn write(&self, to: &mut Writer) {
        let (flow, scope) = match self {
            Self::V4(_) => (0, 0),
            Self::V6(v6) => (v6.flowinfo(), v6.scope_id()),
        };
        self.ip().write(to);
        to.u16(self.port());
        to.u32(flow);
        to.u32(scope);
    }

    #[inline(never)]
    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let (ip, port) = (IpAddr::read(from)?, from.u16()?);
        let (flow, scope) = (from.u32()?, from.u32()?);
        let mut address = Self::new(ip, port);
        if let Self::V6(v6) = &mut address {
            v6.set_flowinfo(flow);
            v6.set_scope_id(scope);
        }
        Some(address)
    }
}

impl WireValue for log::LevelFilter {
    fn write(&self, to: &mut Writer) {
        to.text(self.as_str());
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.text()?.parse().ok()
    }
}

impl<T: WireValue> WireValue for Option<T> {
    #[inline(never)]
    fn write(&self, to: &mut Writer) {
        to.bool(self.is_some());
        if let Some(value) = self {
            value.write(to);
        }
    }

    #[inline(never)]
    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(if from.bool()? {
            Some(T::read(from)?)
        } else {
            None
        })
    }
}

impl<T: WireValue> WireValue for Vec<T> {
    fn write(&self, to: &mut Writer) {
        T::write_list(self, to);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        T::read_list(from)
    }
}

impl<T: WireValue> WireValue for Box<T> {
    fn write(&self, to: &mut Writer) {
        (**self).write(to);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        T::read(from).map(Self::new)
    }
}

impl<T: WireValue> WireValue for Arc<T> {
    fn write(&self, to: &mut Writer) {
        (**self).write(to);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        T::read(from).map(Self::new)
    }
}

impl<A: WireValue, B: WireValue> WireValue for (A, B) {
    fn write(&self, to: &mut Writer) {
        self.0.write(to);
        self.1.write(to);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some((A::read(from)?, B::read(from)?))
    }
}
