//! The configuration as used: resolved and complete, with every default filled in.
//!
//! Both forms of the file compile to this. References between parts are indices that exist.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::core::access_log::form::SyslogFormat;
use crate::core::address::{Address, BackendAddress};
use crate::core::balance::Algorithm;
use crate::core::table::Table;
use crate::tls::material::Material;

pub use crate::core::health::{EjectPolicy, Thresholds};
pub use crate::core::http::forwarded::Network;
pub use crate::core::http::route::HostPattern;
pub use crate::core::keepalive::Keepalive;
pub use crate::core::proxy_header::Version as ProxyVersion;

/// The most workers: twice as many have a row on the board while the binary is replaced.
pub const WORKERS_MAX: usize = if IS_ONE_PROCESS { 1 } else { 60 };

/// Whether this build serves as a single process only, as it has no words that several may count
/// in ([`crate::sys::word`]).
pub const IS_ONE_PROCESS: bool = cfg!(not(target_has_atomic = "64"));

/// Everything one worker needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// In the order of the file; names and addresses are unique.
    pub listeners: Vec<Listener>,
    /// In the order of the file; names are unique.
    pub upstreams: Vec<Upstream>,
    /// Processes that serve, under a supervisor when there are more than one; none is one per
    /// CPU that weir may run on. At most [`WORKERS_MAX`].
    pub workers: Option<usize>,
    /// Whether there is a supervisor over one worker, too.
    pub always_supervised: bool,
    /// Whether workers end gracefully when their supervisor has died, instead of going on.
    pub stops_with_supervisor: bool,
    /// How long a graceful stop waits before it cuts what still runs.
    pub drain_timeout: Duration,
    /// How long weir goes on accepting after it was asked to stop.
    pub pre_drain: Duration,
    /// How often the statistics line is printed; none when off.
    pub stats_interval: Option<Duration>,
    /// The level of the log, unless `RUST_LOG` says otherwise.
    pub log_level: log::LevelFilter,
    /// Client connections of the whole process at once; none derives it from the descriptor limit.
    pub connections_max: Option<usize>,
    /// Capacity of each relay buffer and of the scratch space, in bytes.
    pub buffer_bytes: usize,
    /// All bytes that wait in one process, in bytes: buffers, heads and kept requests. None
    /// derives it from the memory that there is.
    pub buffer_memory_bytes: Option<usize>,
    /// Whether long flows may be moved through kernel pipes with splice(2).
    pub splice: bool,
    /// Where and how accesses are logged; none when off.
    pub access_log: Option<AccessLog>,
    /// Where weir is asked and steered while it runs.
    pub admin: Admin,
    /// Where changes by hand are kept.
    pub state: StatePlace,
    /// Who the process becomes, and what it may do.
    pub privileges: Privileges,
    /// What the files hold that `tls` names; nothing until they are read.
    pub material: Arc<Material>,
}

/// The doors of who asks and steers a running weir. Settled at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admin {
    /// A Unix socket.
    pub socket: AdminSocket,
    /// A TCP socket, by its address; none when off.
    pub listen: Option<Address>,
    /// A file with what callers over TCP must show to act.
    pub token_file: Option<PathBuf>,
    /// Who may look over TCP.
    pub read: AdminRead,
}

/// Where that is kept which an administrator changes by hand. Settled at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StatePlace {
    /// In /var/lib/weir under the name of the pid file, where that can be written.
    #[default]
    Auto,
    /// Nowhere: it lasts as long as this weir.
    Memory,
    /// In that file.
    At(PathBuf),
}

/// Where the Unix socket is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AdminSocket {
    /// Beside the pid file, or else where such sockets are.
    #[default]
    Auto,
    /// Nowhere.
    Off,
    /// There.
    At(PathBuf),
}

/// Who may look over TCP without the token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AdminRead {
    /// Everybody who gets to a loopback address; nobody at another one.
    #[default]
    Auto,
    /// Everybody who gets there.
    Open,
    /// Nobody.
    Token,
}

impl Admin {
    /// Whether who calls over TCP may look without the token.
    pub fn reads_are_open(&self) -> bool {
        match self.read {
            AdminRead::Open => true,
            AdminRead::Auto => self.is_loopback(),
            AdminRead::Token => false,
        }
    }

    /// Whether only this host can connect over TCP.
    pub fn is_loopback(&self) -> bool {
        matches!(&self.listen, Some(Address::Ip(address)) if address.ip().is_loopback())
    }
}

/// Who the process becomes once its listeners are open, and what it may do from then on. Settled
/// at the start: a reload does not change it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Privileges {
    /// A name or number; none is nobody when started as root, else whoever started it.
    pub user: Option<String>,
    /// A name or number; none is the user's own group.
    pub group: Option<String>,
    /// The folder that becomes the root of all paths; none leaves it.
    pub chroot: Option<PathBuf>,
    /// Whether system calls that weir does not need are refused.
    pub sandbox: bool,
}

impl Config {
    /// The names under which everything here has a column on the board, in the order in which a
    /// worker opens them.
    #[must_use]
    pub fn column_names(&self) -> Vec<(Table, String)> {
        let listeners = self.listeners.iter().map(Listener::column_name);
        let listeners = listeners.map(|name| (Table::Listeners, name));
        let upstreams = self.upstreams.iter().flat_map(|upstream| {
            let backends = upstream.backends.iter();
            let backends = backends.map(|backend| upstream.backend_column_name(&backend.identity));
            let backends = backends.map(|name| (Table::Backends, name));
            [(Table::Upstreams, upstream.column_name())]
                .into_iter()
                .chain(backends)
        });
        let secured = self.listeners.iter().filter(|it| it.expects_hello());
        let handshakes = secured.map(|it| (Table::Handshakes, it.column_name()));
        listeners.chain(upstreams).chain(handshakes).collect()
    }
}

/// Routes of a configuration that are counted one by one, at most: the first ones. All are counted
/// with their listeners.
pub const ROUTES_COUNTED_MAX: usize = 256;

impl Config {
    /// How many routes of the listener at that place are counted: its first ones.
    #[must_use]
    pub fn routes_counted(&self, place: usize) -> usize {
        let routes = |listener: &Listener| listener.routes().len();
        let before: usize = self.listeners[..place].iter().map(routes).sum();
        let left = ROUTES_COUNTED_MAX.saturating_sub(before);
        left.min(routes(&self.listeners[place]))
    }

    /// What routes are called where they are counted, if there is room for them.
    #[must_use]
    pub fn route_column_names(&self) -> Vec<(Table, String)> {
        let listeners = self.listeners.iter().enumerate();
        let names = listeners.flat_map(|(place, listener)| {
            let counted = &listener.routes()[..self.routes_counted(place)];
            counted
                .iter()
                .map(|route| listener.route_column_name(route))
        });
        names.map(|name| (Table::Routes, name)).collect()
    }
}

/// One listening socket.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Unique; names it in logs and statistics.
    pub name: String,
    /// Where it binds. `[::]` also takes IPv4.
    pub address: Address,
    /// Length of the accept queue; the kernel caps it at `net.core.somaxconn`.
    pub backlog: i32,
    /// TCP keepalive of client connections; none when off.
    pub keepalive: Option<Keepalive>,
    /// Who tells by a PROXY header for whom it connects; none where nobody does.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Connections of this listener at once; none when only the process limit counts.
    pub connections_max: Option<usize>,
    /// Listener over top over default: complete.
    pub timeouts: Timeouts,
    /// How its connections are decrypted; none when they come in plain.
    pub tls: Option<Box<ListenerTls>>,
    /// What it does with a connection.
    pub mode: Mode,
}

impl Listener {
    /// What is led on without being decrypted.
    pub fn passed_on(&self) -> &[TlsRoute] {
        match (&self.mode, &self.tls) {
            (Mode::Tls { routes }, _) => routes,
            (_, Some(tls)) => &tls.passthrough,
            (_, None) => &[],
        }
    }

    /// Whether its clients begin with a ClientHello.
    pub fn expects_hello(&self) -> bool {
        self.tls.is_some() || matches!(self.mode, Mode::Tls { .. })
    }

    /// Its routes; none of TCP and TLS.
    #[must_use]
    pub fn routes(&self) -> &[Route] {
        match &self.mode {
            Mode::Http(http) => &http.routes,
            Mode::Tcp { .. } | Mode::Tls { .. } => &[],
        }
    }

    /// What a route of it is called where it is counted.
    #[must_use]
    pub fn route_column_name(&self, route: &Route) -> String {
        route_column_name(&self.column_name(), &route.name())
    }

    /// Its name on the board: as over a reload it is known by its address, or by its name where
    /// the kernel chooses the port.
    #[must_use]
    pub fn column_name(&self) -> String {
        match &self.address {
            Address::Ip(address) if address.port() == 0 => format!("listener {}", self.name),
            Address::Ip(_) | Address::Unix(_) => format!("listener {}", self.address),
        }
    }
}

/// PROXY headers, which then every connection begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// Where those connect from who are believed; nobody else is served.
    pub from: Vec<Network>,
    /// Whether peers on Unix sockets are.
    pub from_unix: bool,
}

impl ProxyProtocol {
    /// Whether the header of this peer is believed; one without an address is on a Unix socket.
    pub(crate) fn admits(&self, peer: Option<IpAddr>) -> bool {
        match peer {
            Some(address) => self.from.iter().any(|network| network.contains(address)),
            None => self.from_unix,
        }
    }
}

/// The server's side of TLS. Files are named here as they are written, relative to the folder of
/// the configuration; what they hold comes beside the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTls {
    /// In the order of the file; the first one is for names that none is for.
    pub certificates: Vec<CertificateSource>,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
    /// As IANA calls them; all when empty.
    pub cipher_suites: Vec<String>,
    /// Whether who asks for a name that no certificate is for is refused.
    pub strict_sni: bool,
    /// The application protocols that are agreed to, the best first; any when empty. HTTP has its
    /// own.
    pub alpn: Vec<String>,
    /// Files with keys of session tickets, the first of which encrypts; empty when weir makes and
    /// turns them itself.
    pub ticket_keys: Vec<PathBuf>,
    /// Connections that are led on as they are, by what their ClientHello says.
    pub passthrough: Vec<TlsRoute>,
}

/// Where certificates are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateSource {
    /// One certificate or a folder of them.
    pub files: CertificateFiles,
    /// What it is for, in lower case, also as `*.parent`; empty when the certificate says it.
    pub names: Vec<String>,
    /// Which clients are let in; all when there is none.
    pub client_auth: Option<ClientAuthSource>,
}

/// One certificate or many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateFiles {
    /// One, with its key.
    Pair(IdentityFiles),
    /// All that are in a folder, by their names.
    Directory(PathBuf),
}

/// A certificate with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The chain, the certificate itself first.
    pub certificate: PathBuf,
    /// None when it is in the same file.
    pub key: Option<PathBuf>,
}

/// Which certificates of clients are let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuthSource {
    /// A file of those that issue them.
    pub authorities: PathBuf,
    /// Whether a client without one is refused.
    pub is_required: bool,
    /// A file of lists of those that are revoked.
    pub revocations: Option<PathBuf>,
}

/// Of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// RFC 5246.
    V12,
    /// RFC 8446.
    V13,
}

/// The client's side of TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// A file of those whose certificates are believed.
    pub authorities: PathBuf,
    /// What backends are asked for and must have a certificate for: a name in lower case, or an IP
    /// address. None when each is asked for its own name or, unless it is checked, its address.
    pub server_name: Option<String>,
    /// What weir shows to backends that ask for a certificate.
    pub identity: Option<IdentityFiles>,
    /// Whether their certificates are checked.
    pub verify: bool,
    /// The application protocols that are offered; none when empty.
    pub alpn: Vec<String>,
}

/// What a listener does with a connection.
#[derive(Clone, Debug, PartialEq)]
pub enum Mode {
    /// Relay bytes.
    Tcp {
        /// Index into [`Config::upstreams`].
        upstream: usize,
    },
    /// Route requests.
    Http(Box<Http>),
    /// Relay bytes that stay encrypted, by what the ClientHello says.
    Tls {
        /// Whatever their order, but among equals.
        routes: Vec<TlsRoute>,
    },
}

/// Where connections go that are not decrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsRoute {
    /// Which names it is for; a suffix takes one label before it.
    pub host: HostPattern,
    /// The protocol that the client must offer; none is any.
    pub alpn: Option<String>,
    /// Index into [`Config::upstreams`].
    pub upstream: usize,
}

/// All timeouts of a session, complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For one connection attempt to a backend.
    pub connect: Duration,
    /// What a client has to say before it is settled where it goes, in total: a ClientHello.
    pub handshake: Duration,
    /// An L4 session on which nothing moves, in either direction.
    pub idle: Duration,
    /// A session of which one direction has ended and the other does not move.
    pub half_closed: Duration,
    /// A request head, in total, from its first byte.
    pub header: Duration,
    /// A client connection between two requests.
    pub keep_alive: Duration,
    /// A client that sends no more of its request's body.
    pub upload: Duration,
    /// A backend that takes no more of a request or, from its end, does not answer.
    pub response: Duration,
    /// A backend that sends no more of its response. Event streams have `tunnel` instead.
    pub response_idle: Duration,
    /// A client that takes nothing of what is there for it.
    pub send: Duration,
    /// An upgraded connection or an event stream on which nothing moves.
    pub tunnel: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        super::defaults::TIMEOUTS
    }
}

/// The timeouts that an upstream sets itself, which win over the listener's, or a route, which win
/// over both. A route sets neither `idle` nor `half_closed`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "each is the field of the same name in Timeouts"
)]
pub struct TimeoutOverrides {
    pub connect: Option<Duration>,
    pub idle: Option<Duration>,
    pub half_closed: Option<Duration>,
    pub upload: Option<Duration>,
    pub response: Option<Duration>,
    pub response_idle: Option<Duration>,
    pub send: Option<Duration>,
    pub tunnel: Option<Duration>,
}

impl Timeouts {
    /// These timeouts with those of an upstream or a route in their place where it sets any.
    #[must_use]
    pub fn with(&self, over: &TimeoutOverrides) -> Self {
        Self {
            connect: over.connect.unwrap_or(self.connect),
            idle: over.idle.unwrap_or(self.idle),
            half_closed: over.half_closed.unwrap_or(self.half_closed),
            upload: over.upload.unwrap_or(self.upload),
            response: over.response.unwrap_or(self.response),
            response_idle: over.response_idle.unwrap_or(self.response_idle),
            send: over.send.unwrap_or(self.send),
            tunnel: over.tunnel.unwrap_or(self.tunnel),
            ..*self
        }
    }
}

/// A named group of backends.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// Unique; names it in logs and statistics.
    pub name: String,
    /// How a backend is picked.
    pub algorithm: AlgorithmSettings,
    /// In the order of the file; identities are unique within the upstream.
    pub backends: Vec<Backend>,
    /// Active probes; none when off.
    pub health_check: Option<HealthCheck>,
    /// Ejection by failures of real traffic.
    pub passive: Passive,
    /// What to do when checks say that every backend is down.
    pub when_all_down: WhenAllDown,
    /// Timeouts set here.
    pub timeouts: TimeoutOverrides,
    /// Backends tried for one connection or request, the first included. At least 1.
    pub tries_max: u32,
    /// TCP keepalive of backend connections; none when off.
    pub keepalive: Option<Keepalive>,
    /// How backends are spoken to; none in plain.
    pub tls: Option<Box<UpstreamTls>>,
    /// The PROXY header that connections begin with; none when off.
    pub send_proxy: Option<ProxyVersion>,
    /// HTTP: sticky sessions.
    pub sticky: Option<Sticky>,
    /// HTTP: idle backend connections kept for reuse, per backend. Zero turns reuse off.
    pub idle_connections_max: usize,
    /// HTTP: how long a backend connection is kept idle.
    pub idle_connection_timeout: Duration,
    /// HTTP: whether a client that ends its direction before it has been answered gives up its
    /// request.
    pub abort_on_close: bool,
    /// HTTP: retries beyond connect failures, as a share of requests in percent.
    pub retry_budget_percent: u32,
    /// HTTP: retries per second that are allowed whatever the share.
    pub retry_budget_min_per_s: u32,
    /// HTTP: pages for errors that weir makes itself, by status; they win over the listener's.
    pub error_pages: Vec<ErrorPage>,
}

impl Upstream {
    /// How long a request that is bound to a backend waits for it when that is full.
    #[must_use]
    pub(crate) fn sticky_wait(&self) -> Duration {
        match &self.sticky {
            Some(Sticky::Insert(cookie)) => cookie.wait,
            // By a hash, the key itself leads on to the next backend.
            Some(Sticky::HashCookie(_)) | None => Duration::ZERO,
        }
    }
}

impl Upstream {
    /// Its name on the board.
    #[must_use]
    pub fn column_name(&self) -> String {
        format!("upstream {}", self.name)
    }

    /// The name on the board of the backend with this identity.
    #[must_use]
    pub fn backend_column_name(&self, identity: &str) -> String {
        format!("backend {}/{identity}", self.name)
    }
}

/// The largest weight of a backend.
pub const WEIGHT_MAX: u32 = 65_535;

/// One member of an upstream.
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// `id`, or else the address as written: keeps counters, health and hash share over a reload.
    pub identity: String,
    /// Where it is.
    pub address: BackendAddress,
    /// Share of the traffic, 0 to 65535; 0 takes no new traffic.
    pub weight: u32,
    /// Connections (TCP) or requests in flight (HTTP) at once; none is unlimited.
    pub connections_max: Option<u32>,
}

/// How a backend is picked, and what of a client decides it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlgorithmSettings {
    /// Smooth weighted round robin.
    RoundRobin,
    /// Fewest connections for its weight.
    LeastConn,
    /// The less loaded of two drawn by weight.
    RandomTwo,
    /// Weighted rendezvous hashing of a key.
    Hash(HashKey),
}

impl AlgorithmSettings {
    /// The algorithm without its settings.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::RoundRobin => Algorithm::RoundRobin,
            Self::LeastConn => Algorithm::LeastConnections,
            Self::RandomTwo => Algorithm::RandomTwo,
            Self::Hash(_) => Algorithm::Hash,
        }
    }
}

/// Leading bits of an IPv6 address that stand for one client unless the configuration says
/// otherwise: what a household is given.
pub const IPV6_PREFIX_BITS: u8 = 64;

/// What is hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// The client's IPv4 address, or the leading bits of its IPv6 address.
    ClientIp {
        /// Leading bits of an IPv6 address that count, 1 to 128; 64 by default.
        ipv6_prefix_bits: u8,
    },
    /// HTTP: the value of a request header.
    Header(String),
    /// HTTP: the value of a cookie.
    Cookie(String),
    /// HTTP: the path and query.
    Uri,
}

/// Active health probes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// Between the starts of two probes.
    pub interval: Duration,
    /// For one probe; never above the interval.
    pub timeout: Duration,
    /// Results in a row that change the verdict.
    pub thresholds: Thresholds,
    /// The interval while a change is under way (some results of `rise` or `fall` are in).
    pub fast_interval: Duration,
    /// The interval while a backend is down.
    pub down_interval: Duration,
    /// The state before the first result of a backend known at start.
    pub initial: InitialState,
    /// What a probe does.
    pub kind: ProbeKind,
}

/// What is assumed of a backend that no probe has reported on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialState {
    /// It takes traffic.
    Up,
    /// It takes none before its first passed probe.
    Down,
}

/// What a probe does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    /// Connects.
    Tcp,
    /// Connects and asks `GET path`.
    Http {
        /// Begins with a slash.
        path: String,
        /// The Host field; the backend's address when none.
        host: Option<String>,
        /// Accepted statuses, as inclusive ranges.
        statuses: Vec<(u16, u16)>,
    },
}

/// Ejection of backends that fail real traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passive {
    /// When a backend is ejected, and for how long.
    pub policy: EjectPolicy,
    /// At most this share of the backends is ejected at once, in percent.
    pub eject_percent_max: u32,
    /// HTTP: whether a 5xx answer counts as a failure.
    pub count_5xx: bool,
}

/// What to do when checks say that every backend is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenAllDown {
    /// TCP: close; HTTP: 503.
    Refuse,
    /// Pick among all, as if every one were up.
    UseAll,
}

/// Sticky sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sticky {
    /// weir sets a cookie that names the backend by an opaque tag.
    Insert(StickyCookie),
    /// A cookie that the application sets is hashed onto the backends.
    HashCookie(String),
}

/// The cookie of inserted sticky sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StickyCookie {
    /// Its name.
    pub name: String,
    /// The Domain attribute.
    pub domain: Option<String>,
    /// The Max-Age attribute.
    pub max_age: Option<Duration>,
    /// The SameSite attribute: `Lax`, `Strict` or `None`.
    pub same_site: String,
    /// Whether the Secure attribute is always set.
    pub secure: bool,
    /// Whether `Cache-Control: private` is added where the cookie is set.
    pub cache_private: bool,
    /// Key of the tag's hash; the same on every host that shares clients.
    pub secret: String,
    /// How long a request waits for its backend when that is full; with 0 it goes to another one
    /// at once.
    pub wait: Duration,
}

/// What an HTTP listener does.
#[derive(Clone, Debug, PartialEq)]
pub struct Http {
    /// In the order of the file; the longest prefix wins.
    pub routes: Vec<Route>,
    /// Peers whose forwarded headers are believed.
    pub trusted_proxies: Vec<Network>,
    /// The pseudonym in `Via` on requests; none when off.
    pub via: Option<String>,
    /// Whether `Forwarded` (RFC 7239) is sent as well.
    pub forwarded: bool,
    /// The field that carries the id of a request; none when off.
    pub request_id: Option<String>,
    /// Whether requests without `traceparent` get one.
    pub trace: bool,
    /// Which fields untrusted clients may send.
    pub forwarded_fields: ForwardedFields,
    /// Longest request or response head, in bytes.
    pub head_bytes_max: usize,
    /// Most fields in a head.
    pub fields_max: usize,
    /// Longest request body, in bytes; none is unlimited.
    pub body_bytes_max: Option<u64>,
    /// Requests on one client connection before it is closed; none is unlimited.
    pub requests_max: Option<u64>,
    /// The canonical path at which weir tells itself whether it is ready; none is off.
    pub monitor_path: Option<String>,
    /// Pages for errors that weir makes itself, by status.
    pub error_pages: Vec<ErrorPage>,
    /// What is done with requests that no route takes, if they did not come by https.
    pub redirect_to_https: Option<HttpsRedirect>,
    /// For how long browsers that came over TLS shall use https alone; none does not say so.
    pub hsts: Option<Duration>,
}

/// A redirect to the same host, path and query over https.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpsRedirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// At least 1.
    pub port: u16,
}

/// Changes to the fields that are believed only from trusted proxies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForwardedFields {
    /// Names that belong to them, too.
    pub drop: Vec<String>,
    /// Names that pass from everyone.
    pub keep: Vec<String>,
}

/// One route.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Which hosts it is for.
    pub host: HostPattern,
    /// Begins with a slash; matches at path segments.
    pub prefix: String,
    /// Methods it is for; empty is all.
    pub methods: Vec<String>,
    /// Whether the access log tells of its requests.
    pub access_log: bool,
    /// Whether the prefix is cut from the path before forwarding.
    pub strip_prefix: bool,
    /// Edits of the request's header.
    pub request_headers: HeaderEdits,
    /// Edits of the response's header.
    pub response_headers: HeaderEdits,
    /// Longest request body; wins over the listener's.
    pub body_bytes_max: Option<u64>,
    /// Wins over the upstream's.
    pub abort_on_close: Option<bool>,
    /// They win over the upstream's.
    pub timeouts: TimeoutOverrides,
    /// What it does.
    pub action: Action,
}

impl Route {
    /// As a person would name it: host and prefix, as in the file, with the methods where it is not
    /// for all.
    #[must_use]
    pub fn name(&self) -> String {
        let methods = self.methods.join(",");
        let (host, prefix) = (self.host.text(), &self.prefix);
        match methods.is_empty() {
            true => format!("{host}{prefix}"),
            false => format!("{methods} {host}{prefix}"),
        }
    }
}

/// What a route of that name is called on the board, where its listener is called like this.
#[must_use]
pub fn route_column_name(listener: &str, route: &str) -> String {
    format!("{listener} route {route}")
}

/// What a route does.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Forward to an upstream (index into [`Config::upstreams`]).
    Proxy(usize),
    /// Answer with this.
    Respond(FixedResponse),
    /// Answer with a redirect.
    Redirect {
        /// 301, 302, 303, 307 or 308.
        status: u16,
        /// The Location; `{path}` stands for the request's canonical path and its query.
        location: String,
    },
}

/// A fixed answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedResponse {
    /// 200 to 599.
    pub status: u16,
    /// Name and value; no framing fields.
    pub headers: Vec<(String, String)>,
    /// `{name}` stands for a fact of the request: `{listener}`, `{method}`, `{path}`, `{client}`,
    /// and `{header:NAME}` for a field of it.
    pub body: String,
}

/// Edits of a header, applied in the order remove, set, add.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// Fields to remove.
    pub remove: Vec<String>,
    /// Fields to put in the place of any of that name.
    pub set: Vec<(String, String)>,
    /// Fields to add.
    pub add: Vec<(String, String)>,
}

/// A page for an error that weir makes itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorPage {
    /// The status it is for.
    pub status: u16,
    /// By the file's ending.
    pub content_type: String,
    /// Read when the configuration was loaded.
    pub body: Vec<u8>,
}

/// Where and how accesses are logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// A file that is appended to; none is standard output.
    pub path: Option<PathBuf>,
    /// A syslog daemon, at a Unix socket or by UDP, instead of a file.
    pub syslog: Option<Address>,
    /// What lines to the daemon begin with.
    pub syslog_format: SyslogFormat,
    /// What the daemon is to take the lines for, as a number of RFC 5424.
    pub facility: u8,
    /// One line per request or L4 session.
    pub format: LogFormat,
    /// Which of them get a line; none is all.
    pub when: Option<LogWhen>,
}

/// Which requests and sessions get a line: those of which any of these holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogWhen {
    /// Their status is in one of these ranges; of sessions those that have failed, if there is any.
    pub statuses: Vec<(u16, u16)>,
    /// They took at least so long.
    pub slower_than: Option<Duration>,
    /// So many of a million, by chance.
    pub sample_ppm: u32,
}

/// The form of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// The common log format.
    Common,
    /// Common with referer and user agent, then facts of the backend side.
    Combined,
    /// One JSON object.
    Json,
    /// Text with fields in braces.
    Own(String),
}
