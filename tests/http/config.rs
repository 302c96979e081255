//! Writes the file of an HTTP listener, so that a test states only what it is about.

use std::fmt::{self, Display};

/// One listener `web` on a free port, with its routes, and upstreams.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    listen: String,
    top: Vec<String>,
    listener: Vec<String>,
    routes: Vec<String>,
    upstreams: Vec<Upstream>,
}

#[derive(Clone, Debug)]
struct Upstream {
    name: String,
    backends: Vec<String>,
    lines: Vec<String>,
}

impl Config {
    /// No route and no upstream yet.
    pub(crate) fn new() -> Self {
        Self {
            listen: "127.0.0.1:0".to_owned(),
            top: Vec::new(),
            listener: Vec::new(),
            routes: Vec::new(),
            upstreams: Vec::new(),
        }
    }

    /// Everything goes to `pool`, which has these backends.
    pub(crate) fn pool<B: Display>(backends: impl IntoIterator<Item = B>) -> Self {
        Self::new()
            .route("prefix: /, upstream: pool")
            .upstream("pool", backends)
    }

    /// Where `web` listens.
    pub(crate) fn on(mut self, listen: &str) -> Self {
        listen.clone_into(&mut self.listen);
        self
    }

    /// Adds `key: value` at the top.
    pub(crate) fn top(mut self, line: &str) -> Self {
        self.top.push(line.to_owned());
        self
    }

    /// Adds `key: value` to the listener.
    pub(crate) fn listener(mut self, line: impl Into<String>) -> Self {
        self.listener.push(line.into());
        self
    }

    /// Adds a route, as the inside of a flow mapping.
    pub(crate) fn route(mut self, route: &str) -> Self {
        self.routes.push(route.to_owned());
        self
    }

    /// Adds an upstream.
    pub(crate) fn upstream<B: Display>(
        mut self,
        name: &str,
        backends: impl IntoIterator<Item = B>,
    ) -> Self {
        self.upstreams.push(Upstream {
            name: name.to_owned(),
            backends: backends.into_iter().map(|b| b.to_string()).collect(),
            lines: Vec::new(),
        });
        self
    }

    /// Adds `key: value` to the upstream added last.
    pub(crate) fn with(mut self, line: &str) -> Self {
        let last = self.upstreams.last_mut().expect("an upstream comes first");
        last.lines.push(line.to_owned());
        self
    }
}

impl Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "stats_interval: 0")?;
        for line in &self.top {
            writeln!(f, "{line}")?;
        }
        writeln!(
            f,
            "listeners:\n  - name: web\n    listen: \"{}\"",
            self.listen
        )?;
        writeln!(f, "    mode: http")?;
        for line in &self.listener {
            writeln!(f, "    {line}")?;
        }
        writeln!(f, "    routes:")?;
        for route in &self.routes {
            writeln!(f, "      - {{{route}}}")?;
        }
        if !self.upstreams.is_empty() {
            writeln!(f, "upstreams:")?;
        }
        for upstream in &self.upstreams {
            writeln!(f, "  {}:", upstream.name)?;
            for line in &upstream.lines {
                writeln!(f, "    {line}")?;
            }
            writeln!(f, "    backends:")?;
            for backend in &upstream.backends {
                if backend.starts_with('{') {
                    writeln!(f, "      - {backend}")?;
                } else {
                    writeln!(f, "      - \"{backend}\"")?;
                }
            }
        }
        Ok(())
    }
}
