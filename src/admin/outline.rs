//! What the admin door knows of the configuration: names, not settings.

use crate::board::name_key;
use crate::config::model::{Action, Config, Listener, Mode, Route, Upstream, route_column_name};
use crate::core::table::Table;

/// The parts of a configuration, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outline {
    /// Tells outlines apart: grows with each.
    pub(crate) round: u64,
    pub(crate) listeners: Vec<ListenerOutline>,
    pub(crate) upstreams: Vec<UpstreamOutline>,
}

/// A listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListenerOutline {
    pub(crate) name: String,
    pub(crate) address: String,
    /// `tcp`, `http` or `tls`.
    pub(crate) mode: String,
    pub(crate) column: String,
    /// Whether its clients begin with a ClientHello, so that handshakes are counted.
    pub(crate) expects_hello: bool,
    /// When its first certificate expires, in seconds since 1970; none without certificates.
    pub(crate) expires_unix_s: Option<i64>,
    pub(crate) routes: Vec<RouteOutline>,
}

/// A route of an HTTP listener, or where its connections go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RouteOutline {
    /// As a person would name it: methods, host and prefix.
    pub(crate) name: String,
    /// Empty for every host.
    pub(crate) host: String,
    /// Empty where connections go there.
    pub(crate) path: String,
    /// Empty for all.
    pub(crate) methods: String,
    /// Whether it leads to an upstream.
    pub(crate) is_proxied: bool,
    /// What it does: the upstream's name, or a word.
    pub(crate) leads_to: String,
    /// None of those that are not counted one by one.
    pub(crate) column: Option<String>,
}

/// An upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UpstreamOutline {
    pub(crate) name: String,
    pub(crate) algorithm: String,
    pub(crate) column: String,
    /// Whether its backends are probed.
    pub(crate) is_checked: bool,
    pub(crate) backends: Vec<BackendOutline>,
}

/// A backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BackendOutline {
    /// Its identity.
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) column: String,
    /// As the file has it.
    pub(crate) weight: u32,
}

/// How it goes, as the control loop knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) version: String,
    /// When weir was started, in seconds since 1970.
    pub(crate) started_unix_s: u64,
    /// When the configuration that runs was adopted.
    pub(crate) adopted_unix_s: u64,
    pub(crate) reloads_done: u64,
    pub(crate) reloads_refused: u64,
    pub(crate) last_reload_done: bool,
    pub(crate) phase: Phase,
    /// Workers that there are to be; 0 for a process on its own.
    pub(crate) workers_wanted: u64,
    /// How often the others began to accept for a worker that did not turn.
    pub(crate) rescues: u64,
    /// The process that controls.
    pub(crate) pid: u64,
}

/// How far weir is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    #[default]
    Starting,
    Serving,
    Ending,
}

impl Phase {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Ending => "ending",
        }
    }
}

impl Outline {
    /// That of a configuration.
    pub(crate) fn of(config: &Config) -> Self {
        let upstreams = &config.upstreams;
        let expiries = config.material.listeners.iter();
        let expiries = expiries.map(|it| it.as_ref().and_then(|it| it.expires_unix_s));
        let expiries = expiries.chain(std::iter::repeat(None));
        let listeners = config.listeners.iter().zip(expiries).enumerate();
        Self {
            round: 0,
            listeners: listeners
                .map(|(at, (it, expiry))| {
                    of_listener(it, config.routes_counted(at), expiry, upstreams)
                })
                .collect(),
            upstreams: upstreams.iter().map(of_upstream).collect(),
        }
    }

    /// All names by the keys that they are known by.
    pub(crate) fn names(&self) -> Vec<(u64, &str)> {
        let mut names = Vec::new();
        let mut add = |table, column: &str, name| {
            names.push((name_key(table, column), name));
        };
        for listener in &self.listeners {
            add(Table::Listeners, &listener.column, listener.name.as_str());
            for route in &listener.routes {
                let column = route_column_name(&listener.column, &route.name);
                add(Table::Routes, &column, route.name.as_str());
            }
        }
        for upstream in &self.upstreams {
            add(Table::Upstreams, &upstream.column, upstream.name.as_str());
            for backend in &upstream.backends {
                add(Table::Backends, &backend.column, backend.name.as_str());
            }
        }
        names
    }

    /// The upstream of that name.
    pub(crate) fn upstream(&self, name: &str) -> Option<&UpstreamOutline> {
        self.upstreams.iter().find(|it| it.name == name)
    }
}

fn of_listener(
    listener: &Listener,
    counted: usize,
    expires_unix_s: Option<i64>,
    upstreams: &[Upstream],
) -> ListenerOutline {
    let (mode, routes) = match &listener.mode {
        Mode::Tcp { upstream } => {
            let all = of_connections(String::new(), *upstream, upstreams);
            ("tcp", vec![all])
        }
        Mode::Tls { routes } => {
            let routes = routes.iter();
            let routes = routes.map(|it| of_connections(it.host.text(), it.upstream, upstreams));
            ("tls", routes.collect())
        }
        Mode::Http(http) => {
            let routes = http.routes.iter().enumerate().map(|(at, it)| {
                let column = (at < counted).then(|| listener.route_column_name(it));
                of_route(it, column, upstreams)
            });
            ("http", routes.collect())
        }
    };
    ListenerOutline {
        name: listener.name.clone(),
        address: listener.address.to_string(),
        mode: mode.to_owned(),
        column: listener.column_name(),
        expects_hello: listener.expects_hello(),
        expires_unix_s,
        routes,
    }
}

fn of_route(route: &Route, column: Option<String>, upstreams: &[Upstream]) -> RouteOutline {
    let leads_to = match &route.action {
        Action::Proxy(upstream) => upstreams[*upstream].name.clone(),
        Action::Respond(_) => "respond".to_owned(),
        Action::Redirect { .. } => "redirect".to_owned(),
    };
    RouteOutline {
        name: route.name(),
        host: route.host.text(),
        path: route.prefix.clone(),
        methods: route.methods.join(","),
        is_proxied: matches!(route.action, Action::Proxy(_)),
        leads_to,
        column,
    }
}

/// Where all connections go, or those for a host.
fn of_connections(host: String, upstream: usize, upstreams: &[Upstream]) -> RouteOutline {
    RouteOutline {
        name: host.clone(),
        host,
        path: String::new(),
        methods: String::new(),
        is_proxied: true,
        leads_to: upstreams[upstream].name.clone(),
        column: None,
    }
}

fn of_upstream(upstream: &Upstream) -> UpstreamOutline {
    let backends = upstream.backends.iter().map(|backend| BackendOutline {
        name: backend.identity.clone(),
        address: backend.address.to_string(),
        column: upstream.backend_column_name(&backend.identity),
        weight: backend.weight,
    });
    UpstreamOutline {
        name: upstream.name.clone(),
        algorithm: upstream.algorithm.algorithm().word().to_owned(),
        column: upstream.column_name(),
        is_checked: upstream.health_check.is_some(),
        backends: backends.collect(),
    }
}
