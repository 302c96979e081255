//! The top level of the file, in its two forms.
//!
//! The short form is a listener and an upstream in one mapping. The full form has `listeners`
//! and `upstreams`. Both end in the same model; nothing later knows which one it was.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::defaults;
use super::key::{Home, Key, Needs};
use super::listener;
use super::model::{Admin, Config, ForwardedFields, Keepalive, Listener, StatePlace, Upstream};
use super::node::{Entry, Node, Value, describe_text};
use super::positions::{NamedFile, Positions};
use super::problem::{Position, Problems};
use super::section::{Section, THE_FILE, read_value, report_wrong};
use super::suggest;
use super::timeouts::Given;
use super::top::TOP;
use super::upstream::{self, Declared, HttpKey, UPSTREAM};
use super::values::{self, Read};
use crate::core::address::Address;

/// What is shared while a file is compiled.
pub(super) struct Compiler<'a> {
    pub(super) problems: Problems,
    pub(super) read_file: &'a mut dyn FnMut(&Path) -> io::Result<Vec<u8>>,
    /// Those of the file first, then those made of the backends of routes.
    pub(super) upstreams: Vec<Declared>,
    /// What an upstream without a key of its own has.
    pub(super) base: Upstream,
    /// The short form's upstream, until something uses it.
    fallback: Option<Declared>,
    /// The timeouts of the top level.
    pub(super) timeouts: Given,
    /// The keepalive of the top level.
    pub(super) keepalive: Option<Keepalive>,
    /// Those of the top level.
    pub(super) forwarded_fields: ForwardedFields,
    pub(super) buffer_bytes: usize,
    /// The keys of the part at hand that only HTTP has.
    pub(super) http_keys: Vec<HttpKey>,
    pub(super) positions: Positions,
}

/// The short form's one upstream.
const FALLBACK_NAME: &str = "default";
/// How many upstreams a message lists.
const NAMES_SHOWN_MAX: usize = 10;

impl<'a> Compiler<'a> {
    pub(super) fn new(
        problems: Problems,
        read_file: &'a mut dyn FnMut(&Path) -> io::Result<Vec<u8>>,
    ) -> Self {
        Self {
            problems,
            read_file,
            upstreams: Vec::new(),
            base: upstream::base(None),
            fallback: None,
            timeouts: Given::default(),
            keepalive: None,
            forwarded_fields: ForwardedFields::default(),
            buffer_bytes: defaults::BUFFER_BYTES,
            http_keys: Vec::new(),
            positions: Positions::default(),
        }
    }

    /// Keeps a value that was read, or reports what it must be.
    #[inline(never)]
    pub(super) fn set<T>(&mut self, entry: &Entry, place: &mut T, read: Read<T>) {
        match read {
            Ok(value) => *place = value,
            Err(must) => report_wrong(&entry.key, &entry.value, &must, &mut self.problems),
        }
    }

    /// The path of a file that is read once the whole is known to be good.
    pub(super) fn file(&mut self, entry: &Entry) -> Option<PathBuf> {
        self.file_at(&entry.key, &entry.value)
    }

    #[inline(never)]
    pub(super) fn file_at(&mut self, key: &str, node: &Node) -> Option<PathBuf> {
        let path = read_value(key, node, &mut self.problems, values::path)?;
        self.note_file(key, &path, node.at);
        Some(path)
    }

    /// Notes where a file is named.
    pub(super) fn note_file(&mut self, key: &str, path: &Path, at: Position) {
        self.positions.tls.push(NamedFile {
            key: key.to_owned(),
            path: path.to_owned(),
            at,
        });
    }

    /// Notes a key that is there and what it needs, which may not be known yet.
    pub(super) fn note_needs(&mut self, needs: Needs, key: &'static str, at: Position) {
        if needs == Needs::Http {
            self.http_keys.push((key, at, false));
        }
    }

    /// The whole file. The result counts only if no error was found.
    pub(super) fn root(&mut self, root: &Node) -> Config {
        let mut config = blank();
        let Some(mut top) = Section::open(THE_FILE, root, &mut self.problems) else {
            return config;
        };
        let full_keys = ["listeners", "upstreams"].into_iter();
        let full_key = full_keys.filter_map(|key| top.peek(key)).next();
        top.home = full_key.map_or(Home::Short, |_| Home::Top);
        top.walk(TOP, &mut config, self);
        // They are for the listeners that have HTTP.
        self.http_keys.clear();
        self.positions.note_keys(&top);
        config.listeners = match full_key {
            Some(full_key) => self.full_form(&mut top, full_key),
            None => self.short_form(&mut top),
        };
        top.close(&mut self.problems);
        self.check_usage();
        let declared = std::mem::take(&mut self.upstreams);
        config.upstreams = declared.into_iter().map(|d| d.upstream).collect();
        config
    }

    fn short_form(&mut self, top: &mut Section<'_>) -> Vec<Listener> {
        let (mut settings, http_keys) = upstream::settings(self, top);
        let at = top.peek("backends").map_or(top.at, |entry| entry.key_at);
        if top.peek("backends").is_some() {
            let mut own = settings.clone();
            own.name = FALLBACK_NAME.to_owned();
            let mut declared = Declared::new(own, at, http_keys);
            declared.is_fallback = true;
            self.fallback = Some(declared);
        } else if top.peek("listen").is_none() && top.peek("routes").is_none() {
            let message = "nothing to serve: give `listen` and `backends`, or `listeners` and \
                           `upstreams`";
            self.problems.error(top.at, message);
            for key in ["listen", "routes", "listeners", "upstreams"] {
                top.entry(key);
            }
            return Vec::new();
        }
        settings.backends.clear();
        self.base = settings;
        // What is missing is missed by what is there.
        let wanting = ["listen", "routes", "backends"].into_iter();
        let wanting = wanting.filter_map(|key| top.peek(key)).next();
        top.at = wanting.map_or(top.at, |entry| entry.key_at);
        let listener = listener::listener(self, top);
        if self.fallback.is_some() && self.problems.is_clean() {
            let message = "the top-level `backends` are not used: every route says where it goes";
            self.problems.warning(at, message);
        }
        self.positions.listeners = listener.iter().map(|(_, at)| *at).collect();
        listener.map(|(listener, _)| listener).into_iter().collect()
    }

    fn full_form(&mut self, top: &mut Section<'_>, full_key: &Entry) -> Vec<Listener> {
        self.refuse_short(UPSTREAM, "an upstream", top, full_key);
        self.refuse_short(listener::LISTENER, "a listener", top, full_key);
        self.refuse_short(listener::HTTP, "a listener", top, full_key);
        top.at = full_key.key_at;
        if let Some(entry) = top.entry("upstreams") {
            self.declare_upstreams(&entry.value);
        }
        let listeners = top.require("listeners", &mut self.problems, values::list);
        let mut listeners: Vec<(Listener, Position)> = listeners
            .unwrap_or_default()
            .iter()
            .filter_map(|node| {
                let mut section = Section::open("a listener", node, &mut self.problems)?;
                section.home = Home::Listener;
                let listener = listener::listener(self, &mut section);
                section.close(&mut self.problems);
                listener
            })
            .collect();
        self.check_listeners(&mut listeners);
        self.check_names_of_free_ports(&listeners);
        self.positions.listeners = listeners.iter().map(|(_, at)| *at).collect();
        listeners
            .into_iter()
            .map(|(listener, _)| listener)
            .collect()
    }

    /// Refuses the keys of a table that only the short form has at the top level.
    fn refuse_short<M>(
        &mut self,
        keys: &[Key<M>],
        home: &str,
        top: &mut Section<'_>,
        full_key: &Entry,
    ) {
        for key in keys.iter().filter(|key| key.may_stand(Home::Short)) {
            let name = key.name;
            if let Some(entry) = top.entry(name) {
                let message = format!(
                    "`{name}` at the top level is the short form (one listener, one upstream), and \
                     `{}` on line {} the full form; a file has one of them: move `{name}` into \
                     {home}",
                    full_key.key, full_key.key_at.line
                );
                self.problems.error(entry.key_at, message);
            }
        }
    }

    fn declare_upstreams(&mut self, node: &Node) {
        let Value::Map(entries) = &node.value else {
            let message = format!(
                "`upstreams` is {}; it must be a mapping of names to upstreams",
                node.describe()
            );
            self.problems.error(node.at, message);
            return;
        };
        // Opened for its check of duplicate keys.
        let _ = Section::open("`upstreams`", node, &mut self.problems);
        for entry in entries {
            if !values::is_name(&entry.key) {
                let name = describe_text(&entry.key);
                let must = values::name_must();
                let message = format!("the name of an upstream is {name}; it must be {must}");
                self.problems.error(entry.key_at, message);
            }
            let Some(mut section) = Section::open("an upstream", &entry.value, &mut self.problems)
            else {
                // Known all the same, so that what refers to it is not wrong too.
                let blank = Upstream {
                    name: entry.key.clone(),
                    ..self.base.clone()
                };
                let declared = Declared::new(blank, entry.key_at, Vec::new());
                self.upstreams.push(declared);
                continue;
            };
            section.at = entry.key_at;
            section.home = Home::Upstream;
            let declared = upstream::upstream(self, &mut section, &entry.key);
            section.close(&mut self.problems);
            self.upstreams.push(declared);
        }
    }

    /// The index of a named upstream; an unknown name is reported.
    pub(super) fn upstream_named(&mut self, node: &Node) -> Option<usize> {
        let find = |node: &Node| -> Read<usize> {
            let name = values::text(node)?;
            let names = || self.upstreams.iter().map(|d| d.upstream.name.as_str());
            names().position(|known| known == name).ok_or_else(|| {
                let near = suggest::hint(name, names());
                let known = if !near.is_empty() {
                    near
                } else if self.upstreams.is_empty() {
                    ", and there is none".to_owned()
                } else {
                    let good = names().filter(|name| values::is_name(name));
                    let some: Vec<&str> = good.take(NAMES_SHOWN_MAX).collect();
                    format!(", such as {}", some.join(", "))
                };
                format!("the name of an upstream{known}")
            })
        };
        let found = find(node);
        read_value("upstream", node, &mut self.problems, |_| found)
    }

    /// Whether there is one.
    pub(super) fn has_fallback(&self) -> bool {
        self.fallback.is_some()
    }

    /// The short form's upstream.
    pub(super) fn upstream_fallback(&mut self) -> Option<usize> {
        if let Some(declared) = self.fallback.take() {
            self.upstreams.push(declared);
        }
        let mut names = self.upstreams.iter().map(|d| d.upstream.name.as_str());
        names.position(|name| name == FALLBACK_NAME)
    }

    /// A name that no upstream has yet.
    pub(super) fn free_upstream_name(&self, wanted: &str) -> String {
        free_name(wanted, |name| {
            self.upstreams.iter().any(|d| d.upstream.name == name)
        })
    }

    /// Names and addresses are unique. A listener without a name is named after its address.
    fn check_listeners(&mut self, listeners: &mut [(Listener, Position)]) {
        let mut names: HashMap<String, Position> = HashMap::new();
        let mut addresses: HashMap<String, Position> = HashMap::new();
        for (listener, at) in listeners.iter().filter(|(l, _)| !l.name.is_empty()) {
            if let Some(first) = names.insert(listener.name.clone(), *at) {
                let message = format!(
                    "two listeners are named \"{}\"; the other is on line {}",
                    listener.name, first.line
                );
                self.problems.error(*at, message);
            }
        }
        for (listener, at) in listeners {
            if listener.name.is_empty() {
                let wanted = values::name_from(&listener.address.to_string());
                listener.name = free_name(&wanted, |name| names.contains_key(name));
                names.insert(listener.name.clone(), *at);
            }
            let Some(key) = exclusive(&listener.address) else {
                continue;
            };
            if let Some(first) = addresses.insert(key, *at) {
                let message = format!(
                    "two listeners listen on {}; the other is on line {}",
                    listener.address, first.line
                );
                self.problems.error(*at, message);
            }
        }
    }

    /// A listener whose port the kernel chooses is known by its name alone, which must not be the
    /// address that another one is known by.
    fn check_names_of_free_ports(&mut self, listeners: &[(Listener, Position)]) {
        let is_fixed = |listener: &Listener| exclusive(&listener.address).is_some();
        let fixed = listeners.iter().filter(|(listener, _)| is_fixed(listener));
        let fixed: HashMap<String, Position> =
            fixed.map(|(it, at)| (it.column_name(), *at)).collect();
        for (listener, at) in listeners.iter().filter(|(it, _)| !is_fixed(it)) {
            if let Some(other) = fixed.get(&listener.column_name()) {
                let message = format!(
                    "the listener is named \"{}\", which is where another one listens, on line {}",
                    listener.name, other.line
                );
                self.problems.error(*at, message);
            }
        }
    }

    /// What can only be said of an upstream once it is known who uses it.
    fn check_usage(&mut self) {
        for declared in &self.upstreams {
            let name = &declared.upstream.name;
            if !declared.by_http && declared.relayed.is_none() {
                let message = format!("the upstream \"{name}\" is not used");
                self.problems.warning(declared.at, message);
            }
            let tls = declared.upstream.tls.as_ref();
            if declared.by_http && tls.is_some_and(|tls| !tls.alpn.is_empty()) {
                let message = format!(
                    "`alpn` in `tls` is for bytes that are relayed, and a route of HTTP uses the \
                     upstream \"{name}\""
                );
                self.problems.error(declared.at, message);
            }
            let Some(relayed) = declared.relayed else {
                continue;
            };
            let by = relayed.words();
            for (key, at, needs_http) in &declared.http_keys {
                if *needs_http || !declared.by_http {
                    let user = if declared.is_fallback {
                        format!("this file's listener is {by}: it needs `mode: http`")
                    } else {
                        format!("a listener {by} uses the upstream \"{name}\"")
                    };
                    let message = format!("`{key}` is for HTTP, and {user}");
                    self.problems.error(*at, message);
                }
            }
        }
    }
}

/// The address under which no second listener may be, as text; none when the kernel chooses the
/// port. `[::]` takes IPv4 as well, and `[::ffff:127.0.0.1]` is `127.0.0.1`.
fn exclusive(address: &Address) -> Option<String> {
    let Address::Ip(ip) = address else {
        return Some(address.to_string());
    };
    let host = match ip.ip().to_canonical() {
        host if host.is_unspecified() => std::net::Ipv6Addr::UNSPECIFIED.into(),
        host => host,
    };
    (ip.port() != 0).then(|| SocketAddr::new(host, ip.port()).to_string())
}

fn free_name(wanted: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let mut name = wanted.to_owned();
    let mut number = 2;
    while is_taken(&name) {
        name = format!("{wanted}#{number}");
        number += 1;
    }
    name
}

fn blank() -> Config {
    Config {
        listeners: Vec::new(),
        upstreams: Vec::new(),
        workers: Some(1),
        always_supervised: false,
        stops_with_supervisor: false,
        drain_timeout: defaults::DRAIN_TIMEOUT,
        pre_drain: defaults::PRE_DRAIN,
        stats_interval: Some(defaults::STATS_INTERVAL),
        log_level: defaults::LOG_LEVEL,
        connections_max: None,
        buffer_bytes: defaults::BUFFER_BYTES,
        buffer_memory_bytes: None,
        splice: defaults::SPLICE,
        access_log: None,
        admin: Admin::default(),
        state: StatePlace::default(),
        privileges: defaults::PRIVILEGES,
        material: Arc::default(),
    }
}

/// What leads to an upstream the bytes of clients as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relayed {
    Tcp,
    Tls,
    Passthrough,
}

impl Relayed {
    /// Which listener does, in a message.
    const fn words(self) -> &'static str {
        match self {
            Self::Tcp => "of mode tcp",
            Self::Tls => "of mode tls",
            Self::Passthrough => "with `passthrough`",
        }
    }
}
