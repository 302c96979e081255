//! Configuration keys: of each mapping in the file a table, in the order in which `-T` prints it.
//!
//! An entry is all that there is to say of a key: its name, where it may stand, what it needs, and
//! how it gets into the model and out of it. Reading ([`Section::walk`](super::section::Section)),
//! `-T` ([`written`]), hints, the places that messages name ([`home_of`]), what the short form
//! refuses and what a reload tells ([`said`](super::said)) all walk the tables, and a test holds
//! conf/reference.yaml to them. So a new key is an entry in the table of its mapping and a field of
//! the model, which says its default.
//!
//! A table is read in its order too, whatever the order of the file, so that a key may rely on
//! those before it. One that depends on later ones, or without which there is no model, is read
//! [`later`], by who opened the mapping.

use super::compile::Compiler;
use super::model::Config;
use super::node::Entry;
use super::tree::{Map, Tree, word};
use super::{
    access_log, admin, answers, backend, fields, forwarded_fields, health, https, keepalive,
    listener, proxy_protocol, route, sticky, timeouts, tls, tls_route, top, upstream,
};

/// A key of a mapping that is read into `M`.
#[derive(Debug)]
pub(super) struct Key<M> {
    pub(super) name: &'static str,
    /// A bit for each [`Home`].
    homes: u8,
    pub(super) needs: Needs,
    pub(super) read: fn(&mut M, &Entry, &mut Compiler<'_>),
    write: fn(&M, &Shown<'_>) -> Option<Tree>,
}

/// Where a mapping stands whose keys depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Home {
    /// The top level of the full form.
    Top = 1,
    /// That of the short form.
    Short = 2,
    Listener = 4,
    Upstream = 8,
    Route = 16,
    /// A route with backends of its own, which has the keys of an upstream as well.
    RouteWithBackends = 32,
}

/// What there must be for a key to mean anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    Nothing,
    Http,
    /// A route that forwards.
    Backends,
}

impl<M> Key<M> {
    /// A key that may stand wherever its mapping may, in either mode.
    pub(super) const fn new(
        name: &'static str,
        read: fn(&mut M, &Entry, &mut Compiler<'_>),
        write: fn(&M, &Shown<'_>) -> Option<Tree>,
    ) -> Self {
        Self {
            name,
            homes: u8::MAX,
            needs: Needs::Nothing,
            read,
            write,
        }
    }

    /// It may stand only there.
    pub(super) const fn at(mut self, homes: &[Home]) -> Self {
        self.homes = 0;
        let mut index = 0;
        while index < homes.len() {
            self.homes |= homes[index] as u8;
            index += 1;
        }
        self
    }

    pub(super) const fn needs(mut self, needs: Needs) -> Self {
        self.needs = needs;
        self
    }

    pub(super) fn may_stand(&self, home: Home) -> bool {
        self.homes & home as u8 != 0
    }

    pub(super) fn written(&self, model: &M, shown: &Shown<'_>) -> Option<Tree> {
        shown.has(self.needs).then(|| (self.write)(model, shown))?
    }
}

/// A key that is a field: its name, the field, how a value is read and how it is written.
macro_rules! key {
    {$name:literal, $model:ident . $($field:ident).+, $read:expr, $write:expr $(,)?} => {
        $crate::config::key::Key::<$model>::new(
            $name,
            |it, entry, c| c.set(entry, &mut it.$($field).+, ($read)(&entry.value)),
            |it, _| ($write)(&it.$($field).+).into(),
        )
    };
}
pub(super) use key;

/// Of a key that is read once all others of its mapping are known.
pub(super) fn later<M>(_: &mut M, _: &Entry, _: &mut Compiler<'_>) {}

/// Of a key that only says how others are completed.
pub(super) fn unwritten<M>(_: &M, _: &Shown<'_>) -> Option<Tree> {
    None
}

/// The configuration that is written, and which keys mean anything in the part at hand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown<'a> {
    pub(super) config: &'a Config,
    pub(super) http: bool,
    pub(super) forwards: bool,
}

impl<'a> Shown<'a> {
    pub(super) fn all_of(config: &'a Config) -> Self {
        Self {
            config,
            http: true,
            forwards: true,
        }
    }

    fn has(&self, needs: Needs) -> bool {
        match needs {
            Needs::Nothing => true,
            Needs::Http => self.http,
            Needs::Backends => self.forwards,
        }
    }
}

/// What is written of a model, in the order of its table.
#[inline(never)]
pub(super) fn written<M>(keys: &[Key<M>], model: &M, shown: &Shown<'_>) -> Map {
    let mut map = Map::new();
    for key in keys {
        add(&mut map, key.name, key.written(model, shown));
    }
    map
}

/// Compiled once for all tables.
#[inline(never)]
fn add(map: &mut Map, name: &str, tree: Option<Tree>) {
    map.extend(tree.map(|tree| (name.to_owned(), tree)));
}

/// The same, as the value of a key.
pub(super) fn mapping<M>(keys: &[Key<M>], model: &M, shown: &Shown<'_>) -> Option<Tree> {
    Some(Tree::Map(written(keys, model, shown)))
}

/// A mapping that may be off.
pub(super) fn or_off<M>(keys: &[Key<M>], model: Option<&M>, shown: &Shown<'_>) -> Option<Tree> {
    let off = || Some(word("off"));
    model.map_or_else(off, |model| mapping(keys, model, shown))
}

/// The names of a table, and what a message calls its mapping.
pub(super) struct KeyTable {
    pub(super) mapping: &'static str,
    pub(super) name: fn(usize) -> Option<&'static str>,
}

macro_rules! table {
    ($mapping:literal, $keys:expr) => {
        KeyTable {
            mapping: $mapping,
            name: |index| $keys.get(index).map(|key| key.name),
        }
    };
}

/// Every table. Where a key is at home in two, the first counts.
pub(super) static TABLES: &[KeyTable] = &[
    table!("an upstream", upstream::UPSTREAM),
    table!("a listener", listener::LISTENER),
    table!("a listener", listener::HTTP),
    table!("a listener of the full form", listener::WITHOUT_ROUTES),
    table!("a backend", backend::BACKEND),
    table!("`limits`", listener::LIMITS),
    table!("`limits`", listener::HTTP_LIMITS),
    table!("a route", route::ROUTE),
    table!("a TLS route", tls_route::TLS_ROUTE),
    table!("`timeouts`", timeouts::TIMEOUTS),
    table!("`health_check`", health::HEALTH_CHECK),
    table!("the top level of the file", top::TOP),
    table!("`passive`", health::PASSIVE),
    table!("`retries`", upstream::RETRIES),
    table!("`reuse`", upstream::REUSE),
    table!("`sticky`", sticky::STICKY),
    table!("`keepalive`", keepalive::KEEPALIVE),
    table!("`proxy_protocol`", proxy_protocol::PROXY_PROTOCOL),
    table!("`buffers`", top::BUFFERS),
    table!("`access_log`", access_log::ACCESS_LOG),
    table!("`when`", access_log::WHEN),
    table!("`admin`", admin::ADMIN),
    table!("`forwarded_fields`", forwarded_fields::FORWARDED_FIELDS),
    table!("`headers`", fields::HEADERS),
    table!("`request` or `response`", fields::EDITS),
    table!("`respond`", answers::RESPOND),
    table!("`redirect`", answers::REDIRECT),
    table!("`redirect_to_https`", https::REDIRECT_TO_HTTPS),
    table!("`tls`", tls::TLS),
    table!("one of `certificates`", tls::CERTIFICATE),
    table!("`tls`", tls::UPSTREAM_TLS),
];

impl KeyTable {
    fn has(&self, name: &str) -> bool {
        self.names().any(|it| it == name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        (0..).map_while(self.name)
    }
}

/// Where a key belongs that stands in the wrong place; none when that is nowhere, or too many
/// places to name one.
pub(super) fn home_of(name: &str) -> Option<&'static str> {
    let mut homes = TABLES.iter().filter(|table| table.has(name));
    let (first, fourth) = (homes.next()?, homes.nth(2));
    fourth.is_none().then_some(first.mapping)
}
