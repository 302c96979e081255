//! Writes the full form of the configuration file, so that a test states only what it is about.

use std::fmt::{self, Display};

/// One listener `front` that relays to one upstream `pool`, plus what is added.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    top: Vec<String>,
    listeners: Vec<Listener>,
    upstream: Vec<String>,
    backends: Vec<String>,
}

#[derive(Clone, Debug)]
struct Listener {
    name: String,
    address: String,
    keys: Vec<String>,
}

impl Config {
    /// `front` on a free port of 127.0.0.1, round robin, no health checks, no statistics.
    pub(crate) fn new() -> Self {
        Self::on("127.0.0.1:0")
    }

    /// The same with `front` on that address.
    pub(crate) fn on(address: &str) -> Self {
        Self {
            top: vec!["log_level: debug".to_owned()],
            listeners: Vec::new(),
            upstream: Vec::new(),
            backends: Vec::new(),
        }
        .listen("front", address)
    }

    /// Adds a listener.
    pub(crate) fn listen(mut self, name: &str, address: &str) -> Self {
        self.listeners.push(Listener {
            name: name.to_owned(),
            address: address.to_owned(),
            keys: Vec::new(),
        });
        self
    }

    /// Adds `key: value` to the listener added last.
    pub(crate) fn listener(mut self, line: &str) -> Self {
        let last = self.listeners.last_mut().expect("front is always there");
        last.keys.push(line.to_owned());
        self
    }

    /// Adds `key: value` at the top.
    pub(crate) fn top(mut self, line: &str) -> Self {
        self.top.push(line.to_owned());
        self
    }

    /// Adds `key: value` to the upstream.
    pub(crate) fn upstream(mut self, line: &str) -> Self {
        self.upstream.push(line.to_owned());
        self
    }

    /// Adds health checks that see a change soon and yet forgive a slow machine: the timeout of
    /// a probe is long, and so is the interval, which may not be shorter; only while something
    /// changes do probes follow fast.
    pub(crate) fn checked(self, keys: &str) -> Self {
        let steady = "interval: 2s, timeout: 2s";
        let changing = "fast_interval: 100ms, down_interval: 100ms";
        self.upstream(&format!("health_check: {{{steady}, {changing}, {keys}}}"))
    }

    /// Adds a backend.
    pub(crate) fn backend(mut self, address: impl Display) -> Self {
        self.backends.push(format!("{{address: \"{address}\"}}"));
        self
    }

    /// Adds a backend with more keys, as `weight: 5`.
    pub(crate) fn backend_with(mut self, address: impl Display, keys: &str) -> Self {
        self.backends
            .push(format!("{{address: \"{address}\", {keys}}}"));
        self
    }
}

impl Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.top {
            writeln!(f, "{line}")?;
        }
        if !self
            .top
            .iter()
            .any(|line| line.starts_with("stats_interval"))
        {
            writeln!(f, "stats_interval: 0s")?;
        }
        writeln!(f, "listeners:")?;
        for listener in &self.listeners {
            writeln!(f, "  - name: {}", listener.name)?;
            writeln!(f, "    listen: \"{}\"", listener.address)?;
            writeln!(f, "    mode: tcp")?;
            writeln!(f, "    upstream: pool")?;
            for line in &listener.keys {
                writeln!(f, "    {line}")?;
            }
        }
        writeln!(f, "upstreams:")?;
        writeln!(f, "  pool:")?;
        for line in &self.upstream {
            writeln!(f, "    {line}")?;
        }
        writeln!(f, "    backends:")?;
        for backend in &self.backends {
            writeln!(f, "      - {backend}")?;
        }
        Ok(())
    }
}
