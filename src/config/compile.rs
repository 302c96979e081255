//! The top level of the file, in its two forms.
//!
//! The short form is a listener and an upstream in one mapping. The full form has `listeners`
//! and `upstreams`. Both end in the same model; nothing later knows which one it was.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use super::defaults;
use super::forwarded_fields::forwarded_fields;
use super::listener;
use super::model::{
    AccessLog, Config, ForwardedFields, Keepalive, Listener, LogFormat, Mode, Privileges, Upstream,
    WORKERS_MAX,
};
use super::node::{Entry, Node, Value, describe_text};
use super::places::Places;
use super::problem::{Position, Problems};
use super::section::{Section, read_value};
use super::suggest;
use super::timeouts::{Given, Place};
use super::upstream::{self, Declared};
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
    pub(super) places: Places,
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
            places: Places::default(),
        }
    }

    /// The whole file. The result counts only if no error was found.
    pub(super) fn root(&mut self, root: &Node) -> Config {
        let mut config = blank();
        let Some(mut top) = Section::open("the file", root, &mut self.problems) else {
            return config;
        };
        self.process(&mut top, &mut config);
        self.places.note_keys(&top);
        let full_key = ["listeners", "upstreams"]
            .into_iter()
            .find_map(|key| top.peek(key));
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

    /// What both forms have.
    fn process(&mut self, top: &mut Section<'_>, config: &mut Config) {
        let problems = &mut self.problems;
        if let Some(node) = top.node("timeouts") {
            self.timeouts = Given::read(node, Place::Top, problems);
        }
        config.drain_timeout = self.timeouts.drain.unwrap_or(config.drain_timeout);
        config.pre_drain = self.timeouts.pre_drain.unwrap_or(config.pre_drain);
        if let Some(keepalive) = top.node("keepalive") {
            self.keepalive = listener::keepalive(keepalive, problems);
            self.base.keepalive = self.keepalive;
        }
        if let Some(node) = top.node("forwarded_fields") {
            self.forwarded_fields = forwarded_fields(node, problems);
        }
        let workers = values::or_word("auto", values::integer(1..=WORKERS_MAX as i128));
        if let Some(workers) = top.read("workers", problems, workers) {
            config.workers = workers;
        }
        let supervisor = values::or_word("auto", values::on);
        if let Some(supervisor) = top.read("supervisor", problems, supervisor) {
            config.always_supervised = supervisor.is_some();
        }
        let choices = [("serve", false), ("stop", true)];
        let choice = |node: &Node| values::choice(node, &choices);
        if let Some(stops) = top.read("when_supervisor_dies", problems, choice) {
            config.stops_with_supervisor = stops;
        }
        if let Some(level) = top.read("log_level", problems, log_level) {
            config.log_level = level;
        }
        if let Some(interval) = top.read("stats_interval", problems, stats_interval) {
            config.stats_interval = interval;
        }
        let connections = values::integer(1..=defaults::CONNECTIONS_LIMIT);
        let connections = values::or_word("auto", connections);
        if let Some(max) = top.read("max_connections", problems, connections) {
            config.connections_max = max;
        }
        if let Some(splice) = top.read("splice", problems, values::boolean) {
            config.splice = splice;
        }
        if let Some(node) = top.node("access_log") {
            config.access_log = access_log(node, problems);
            let path = config.access_log.as_ref().and_then(|it| it.path.as_ref());
            self.places.access_log = path.map(|_| path_at(node));
        }
        if let Some(node) = top.node("buffers") {
            buffers(node, config, problems);
        }
        privileges(top, &mut config.privileges, problems);
        self.buffer_bytes = config.buffer_bytes;
    }

    fn short_form(&mut self, top: &mut Section<'_>) -> Vec<Listener> {
        let (mut settings, http_keys) = upstream::settings(top, &self.base, &mut self.problems);
        let at = top.peek("backends").map_or(top.at, |entry| entry.key_at);
        if let Some(node) = top.node("backends") {
            let mut own = settings.clone();
            own.name = FALLBACK_NAME.to_owned();
            own.backends = upstream::backends(node, &mut self.problems);
            let mut declared = Declared::new(own, at, http_keys);
            declared.is_fallback = true;
            self.fallback = Some(declared);
        } else if top.peek("listen").is_none() && top.peek("routes").is_none() {
            let message = "nothing to serve: give `listen` and `backends`, or `listeners` and \
                           `upstreams`";
            self.problems.error(top.at, message);
            return Vec::new();
        }
        settings.backends.clear();
        self.base = settings;
        // What is missing is missed by what is there.
        let wanting = ["listen", "routes", "backends"].into_iter();
        let wanting = wanting.filter_map(|key| top.peek(key)).next();
        top.at = wanting.map_or(top.at, |entry| entry.key_at);
        let listener = listener::listener(self, top, true);
        if self.fallback.is_some() && self.problems.is_clean() {
            let message = "the top-level `backends` are not used: every route says where it goes";
            self.problems.warning(at, message);
        }
        self.places.listeners = listener.iter().map(|(_, at)| *at).collect();
        listener.map(|(listener, _)| listener).into_iter().collect()
    }

    fn full_form(&mut self, top: &mut Section<'_>, full_key: &Entry) -> Vec<Listener> {
        self.refuse_short_keys(top, full_key);
        top.at = full_key.key_at;
        if let Some(node) = top.node("upstreams") {
            self.declare_upstreams(node);
        }
        let listeners = top.require("listeners", &mut self.problems, values::list);
        let mut listeners: Vec<(Listener, Position)> = listeners
            .unwrap_or_default()
            .iter()
            .filter_map(|node| {
                let mut section = Section::open("a listener", node, &mut self.problems)?;
                let listener = listener::listener(self, &mut section, false);
                section.close(&mut self.problems);
                listener
            })
            .collect();
        self.check_listeners(&mut listeners);
        self.check_names_of_free_ports(&listeners);
        self.places.listeners = listeners.iter().map(|(_, at)| *at).collect();
        listeners
            .into_iter()
            .map(|(listener, _)| listener)
            .collect()
    }

    fn refuse_short_keys(&mut self, top: &mut Section<'_>, full_key: &Entry) {
        let keys = listener::SHORT_KEYS.iter().chain(&upstream::KEYS);
        for key in keys {
            if let Some(entry) = top.entry(key) {
                let home = if upstream::KEYS.contains(key) {
                    "an upstream"
                } else {
                    "a listener"
                };
                let message = format!(
                    "`{key}` at the top level is the short form (one listener, one upstream), and \
                     `{}` on line {} the full form; a file has one of them: move `{key}` into \
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
            let declared = upstream::named(self, &mut section, &entry.key);
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
        let mut addresses: HashMap<Address, Position> = HashMap::new();
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
            if !declared.by_http && !declared.by_tcp {
                let message = format!("the upstream \"{name}\" is not used");
                self.problems.warning(declared.at, message);
            }
            if !declared.by_tcp {
                continue;
            }
            for (key, at, needs_http) in &declared.http_keys {
                if *needs_http || !declared.by_http {
                    let user = if declared.is_fallback {
                        "this file's listener is in mode tcp".to_owned()
                    } else {
                        format!("a listener of mode tcp uses the upstream \"{name}\"")
                    };
                    let message = format!("`{key}` is for HTTP, and {user}");
                    self.problems.error(*at, message);
                }
            }
        }
    }
}

/// The address under which no second listener may be; none when the kernel chooses the port.
/// `[::]` takes IPv4 as well, and `[::ffff:127.0.0.1]` is `127.0.0.1`.
fn exclusive(address: &Address) -> Option<Address> {
    let Address::Ip(ip) = address else {
        return Some(address.clone());
    };
    let host = match ip.ip().to_canonical() {
        host if host.is_unspecified() => std::net::Ipv6Addr::UNSPECIFIED.into(),
        host => host,
    };
    (ip.port() != 0).then(|| Address::Ip((host, ip.port()).into()))
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
        buffer_memory_bytes: defaults::BUFFER_MEMORY_BYTES,
        splice: defaults::SPLICE,
        access_log: None,
        privileges: defaults::PRIVILEGES,
    }
}

fn log_level(node: &Node) -> Read<log::LevelFilter> {
    let levels = [
        ("off", log::LevelFilter::Off),
        ("error", log::LevelFilter::Error),
        ("warn", log::LevelFilter::Warn),
        ("info", log::LevelFilter::Info),
        ("debug", log::LevelFilter::Debug),
        ("trace", log::LevelFilter::Trace),
    ];
    values::choice(node, &levels)
}

fn stats_interval(node: &Node) -> Read<Option<std::time::Duration>> {
    let is_zero = values::duration(std::time::Duration::ZERO..=std::time::Duration::ZERO);
    if values::is_off(node) || is_zero(node).is_ok() {
        return Ok(None);
    }
    let range = defaults::STATS_INTERVAL_MIN..=defaults::STATS_INTERVAL_MAX;
    values::duration(range)(node)
        .map(Some)
        .map_err(|must| format!("{must}, or 0 for off"))
}

/// `off`, `on`, a path, `stdout`, or a mapping of both keys.
fn access_log(node: &Node, problems: &mut Problems) -> Option<AccessLog> {
    let mut log = AccessLog {
        path: None,
        format: LogFormat::Combined,
    };
    if values::switch(node) == Some(false) {
        return None;
    }
    let Value::Map(_) = node.value else {
        log.path = read_value("access_log", node, problems, |node| {
            log_path(node).map_err(|must| format!("off, {must}"))
        })?;
        return Some(log);
    };
    let mut section = Section::open("`access_log`", node, problems)?;
    if let Some(path) = section.read("path", problems, log_path) {
        log.path = path;
    }
    let formats = [
        ("common", LogFormat::Common),
        ("combined", LogFormat::Combined),
        ("json", LogFormat::Json),
    ];
    let format = section.read("format", problems, |node| values::choice(node, &formats));
    log.format = format.unwrap_or(log.format);
    section.close(problems);
    Some(log)
}

/// Where a good `access_log` names its file.
fn path_at(node: &Node) -> Position {
    let Value::Map(entries) = &node.value else {
        return node.at;
    };
    let path = entries.iter().find(|entry| entry.key == "path");
    path.map_or(node.at, |path| path.value.at)
}

/// Whose file is none to open: a service manager may have put a socket there.
const STDOUT_PATHS: [&str; 3] = ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];

/// `stdout` or a file. A bare word is most likely a setting of another program, and would be the
/// name of a file wherever weir happens to be started.
fn log_path(node: &Node) -> Read<Option<PathBuf>> {
    const MUST: &str = "stdout or the path of a file, such as /var/log/weir/access.log";
    if values::switch(node) == Some(true) {
        return Ok(None);
    }
    let path = values::text(node).map_err(|_| MUST.to_owned())?;
    let kind = path.split(':').next().unwrap_or_default();
    match kind.to_ascii_lowercase().as_str() {
        "stdout" if kind == path => return Ok(None),
        "common" | "combined" | "json" => {
            let mapping = format!("{{path: stdout, format: {kind}}}");
            return Err(format!("{MUST}; a format stands beside it, as {mapping}"));
        }
        "stderr" | "syslog" => {
            let mapping = "{path: stdout, format: combined}";
            return Err(format!(
                "{MUST}, also as {mapping}: weir writes accesses to no {kind}, but what runs it \
                 can take them from stdout"
            ));
        }
        _ => {}
    }
    if path.is_empty() || path.ends_with('/') || path.contains('\0') {
        Err(MUST.to_owned())
    } else if STDOUT_PATHS.contains(&path) {
        Ok(None)
    } else if !path.contains(['/', '.']) {
        let example = describe_text(&format!("./{path}"));
        Err(format!("{MUST}; a file in the working folder is {example}"))
    } else {
        Ok(Some(PathBuf::from(path)))
    }
}

/// Nothing is looked up here: whether such a user exists is a matter of the machine.
fn privileges(top: &mut Section<'_>, privileges: &mut Privileges, problems: &mut Problems) {
    let account = || values::or_word("auto", values::account);
    if let Some(user) = top.read("user", problems, account()) {
        privileges.user = user;
    }
    if let Some(group) = top.read("group", problems, account()) {
        privileges.group = group;
    }
    if let Some(chroot) = top.read("chroot", problems, values::root_folder) {
        privileges.chroot = chroot;
    }
    if let Some(sandbox) = top.read("sandbox", problems, values::on_or_off) {
        privileges.sandbox = sandbox;
    }
}

fn buffers(node: &Node, config: &mut Config, problems: &mut Problems) {
    let Some(mut section) = Section::open("`buffers`", node, problems) else {
        return;
    };
    let size_range = defaults::BUFFER_BYTES_MIN..=defaults::BUFFER_BYTES_MAX;
    let size = section.read("size", problems, values::size(size_range));
    config.buffer_bytes = size.unwrap_or(config.buffer_bytes);
    // Nothing is said against a memory that some size fits. By default any does.
    let least_size = match (size, section.peek("size")) {
        (None, Some(_)) => defaults::BUFFER_BYTES_MIN,
        (Some(_), _) | (None, None) => config.buffer_bytes as u64,
    };
    let least = least_size * defaults::BUFFERS_MIN;
    let memory = values::size(least..=defaults::BUFFER_MEMORY_BYTES_MAX);
    let memory = section.read("memory", problems, |node| {
        let count = defaults::BUFFERS_MIN;
        memory(node).map_err(|must| format!("{must}, and hold {count} buffers of `size`"))
    });
    config.buffer_memory_bytes = memory.unwrap_or(config.buffer_memory_bytes);
    section.close(problems);
}

/// Notes that a listener uses an upstream.
pub(super) fn note_use(upstreams: &mut [Declared], index: usize, mode: &Mode) {
    match mode {
        Mode::Tcp { .. } => upstreams[index].by_tcp = true,
        Mode::Http(_) => upstreams[index].by_http = true,
    }
}
