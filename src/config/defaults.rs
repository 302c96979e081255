//! Every default and every limit of the configuration, in one place.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::model::{
    EjectPolicy, HealthCheck, HttpsRedirect, InitialState, Keepalive, ListenerTls, Passive,
    Privileges, ProbeKind, Thresholds, Timeouts, TlsVersion,
};

pub const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(5),
    handshake: Duration::from_secs(10),
    idle: Duration::from_secs(10 * 60),
    half_closed: Duration::from_secs(30),
    header: Duration::from_secs(10),
    keep_alive: Duration::from_secs(60),
    upload: Duration::from_secs(30),
    response: Duration::from_secs(60),
    response_idle: Duration::from_secs(60),
    send: Duration::from_secs(60),
    tunnel: Duration::from_secs(60 * 60),
};
pub const TIMEOUT_MIN: Duration = Duration::from_millis(1);
pub const TIMEOUT_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
pub const PRE_DRAIN: Duration = Duration::ZERO;
pub const DRAIN_MAX: Duration = Duration::from_secs(24 * 60 * 60);

pub const STATS_INTERVAL: Duration = Duration::from_secs(10);
pub const STATS_INTERVAL_MIN: Duration = Duration::from_millis(100);
pub const STATS_INTERVAL_MAX: Duration = Duration::from_secs(24 * 60 * 60);
pub const LOG_LEVEL: log::LevelFilter = log::LevelFilter::Info;

/// The most that a limit on connections may say; more than any machine has descriptors.
pub const CONNECTIONS_LIMIT: i128 = 100_000_000;

/// Started as root: nobody, and its group.
pub const PRIVILEGES: Privileges = Privileges {
    user: None,
    group: None,
    chroot: None,
    sandbox: true,
};
/// The longest name of a user or group (`LOGIN_NAME_MAX` of limits(7), without its zero).
pub const ACCOUNT_BYTES_MAX: usize = 255;

pub const BUFFER_BYTES: usize = 64 << 10;
/// Measured: beyond the first 64 KiB of a flow it costs a third to a half of what copying does.
pub const SPLICE: bool = true;
pub const BUFFER_BYTES_MIN: u64 = 8 << 10;
pub const BUFFER_BYTES_MAX: u64 = 1 << 20;
pub const BUFFER_MEMORY_BYTES_MAX: u64 = 64 << 30;
/// Fewest buffers that the memory must hold: two sessions with both directions stalled.
pub const BUFFERS_MIN: u64 = 4;

/// The kernel caps it at `net.core.somaxconn`.
pub const BACKLOG: i32 = i32::MAX;
pub const NAME_BYTES_MAX: usize = 300;
/// Names in a list of `forwarded_fields`.
pub const FORWARDED_NAMES_MAX: usize = 64;

/// When it is on.
pub const KEEPALIVE: Keepalive = Keepalive {
    idle: Duration::from_secs(60),
    interval: Duration::from_secs(10),
    probes: 6,
};
/// The kernel's bound on both times (`MAX_TCP_KEEPIDLE`, `MAX_TCP_KEEPINTVL`).
pub const KEEPALIVE_MAX: Duration = Duration::from_secs(32_767);
/// The kernel's bound (`MAX_TCP_KEEPCNT`).
pub const KEEPALIVE_PROBES_MAX: i128 = 127;

/// Without a certificate, which has no default.
pub const LISTENER_TLS: ListenerTls = ListenerTls {
    certificates: Vec::new(),
    min_version: TlsVersion::V12,
    cipher_suites: Vec::new(),
    strict_sni: false,
    alpn: Vec::new(),
    ticket_keys: Vec::new(),
    passthrough: Vec::new(),
};
/// Application protocols of a listener or upstream.
pub const PROTOCOLS_MAX: usize = 16;
/// Where most distributions keep the certificates of those whom the system believes.
pub const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

pub const HEAD_BYTES: usize = 16 << 10;
pub const HEAD_BYTES_MIN: u64 = 1 << 10;
pub const FIELDS: usize = 100;
pub const VIA: &str = "weir";
pub const RESPOND_STATUS: u16 = 200;
pub const REDIRECT_STATUS: u16 = 302;
/// For good, and with the method and body that the request had.
pub const HTTPS_REDIRECT: HttpsRedirect = HttpsRedirect {
    status: 308,
    port: 443,
};
pub const HSTS_MIN: Duration = Duration::from_secs(1);
/// As long as anybody asks for.
pub const HSTS_MAX: Duration = Duration::from_secs(730 * 24 * 60 * 60);
/// Longest page of weir's own, fixed answer or error, in bytes.
pub const PAGE_BYTES_MAX: usize = 64 << 10;
/// Longest value of a configured field, in bytes.
pub const FIELD_VALUE_BYTES_MAX: usize = 4 << 10;

pub const WEIGHT: u32 = 1;

pub const CHECK_INTERVAL_MIN: Duration = Duration::from_millis(100);
pub const CHECK_INTERVAL_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// When it is on. `timeout` and `fast_interval` are lowered to the interval when that is shorter;
/// `down_interval` is the interval.
pub const HEALTH_CHECK: HealthCheck = HealthCheck {
    interval: Duration::from_secs(5),
    timeout: Duration::from_secs(2),
    thresholds: Thresholds { rise: 2, fall: 3 },
    fast_interval: Duration::from_secs(1),
    down_interval: Duration::from_secs(5),
    initial: InitialState::Up,
    kind: ProbeKind::Tcp,
};
pub const CHECK_COUNT_MAX: i128 = 100;
pub const CHECK_STATUSES: (u16, u16) = (200, 299);

pub const PASSIVE: Passive = Passive {
    policy: EjectPolicy {
        failures: 3,
        eject: Duration::from_secs(10),
        eject_max: Duration::from_secs(5 * 60),
    },
    eject_percent_max: 50,
    count_5xx: false,
};

pub const TRIES: u32 = 3;
pub const TRIES_MAX: i128 = 100;
pub const RETRY_BUDGET_PERCENT: u32 = 20;
pub const RETRY_BUDGET_MIN_PER_S: u32 = 3;

pub const IDLE_CONNECTIONS: usize = 32;
pub const IDLE_CONNECTIONS_MAX: i128 = 65_535;
pub const IDLE_CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);

/// Who has ended its direction may still listen (RFC 9112 section 9.6).
pub const ABORT_ON_CLOSE: bool = false;

pub const SAME_SITE: &str = "Lax";
/// Not secret: who wants tags that nobody can make must set one.
pub const STICKY_SECRET: &str = "weir";
pub const SECRET_BYTES_MAX: usize = 256;
pub const STICKY_WAIT: Duration = Duration::from_secs(1);
/// Longer than anybody waits for a page.
pub const STICKY_WAIT_MAX: Duration = Duration::from_secs(60);
pub const MAX_AGE_MAX: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// local0 (RFC 5424 section 6.2.1).
pub const LOG_FACILITY: u8 = 16;

/// How slow a request may have to be for a line of the access log.
pub const LOG_SLOWER_THAN: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(24 * 60 * 60);
