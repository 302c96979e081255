//! The workloads: what each does, how many connections it has, and what its unit of work is.

use std::time::Duration;

/// One kind of load, named as in `BENCH=`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Workload {
    /// As in `BENCH=`.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// What the connections do.
    pub kind: Kind,
    /// Connections at once; with a rate, those open from the start.
    pub connections: usize,
    /// Units per second, at fixed times whatever the answers do; none is as fast as answers come.
    pub rate_per_s: Option<u32>,
    /// What clients speak to the proxy in; none is without TLS.
    pub tls: Option<Tls>,
}

/// How clients speak TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The key of the proxy's certificate.
    pub key: Key,
    /// The only version that clients offer.
    pub version: Version,
    /// Every handshake but the first resumes an earlier session.
    pub is_resumed: bool,
    /// Certificates of other names that the proxy has besides.
    pub more_certificates: usize,
}

/// The kind of a certificate's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// ECDSA on P-256.
    Ecdsa,
    /// RSA of 2,048 bits.
    Rsa,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// TLS 1.2.
    V12,
    /// TLS 1.3.
    V13,
}

impl Tls {
    /// New sessions with one certificate.
    #[must_use]
    pub const fn new(key: Key, version: Version) -> Self {
        Self {
            key,
            version,
            is_resumed: false,
            more_certificates: 0,
        }
    }

    const fn resumed(self) -> Self {
        Self {
            is_resumed: true,
            ..self
        }
    }

    const fn beside(self, more_certificates: usize) -> Self {
        Self {
            more_certificates,
            ..self
        }
    }
}

/// What a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Connects, sends 128 bytes, gets them back; then one side closes.
    Churn {
        /// The backend closes after its answer; otherwise the client does.
        backend_closes: bool,
    },
    /// 128 bytes there and back, again and again.
    Messages,
    /// One direction as fast as it goes.
    Bulk {
        /// From client to backend; otherwise the other way.
        up: bool,
    },
    /// A GET request and its answer.
    Http {
        /// Length of the answer's body.
        body_bytes: usize,
        /// One request per connection, with `Connection: close`.
        close: bool,
    },
    /// Connections that did one exchange and then do nothing.
    Idle {
        /// The exchange is an HTTP request.
        http: bool,
    },
    /// From exec to the first answer of an HTTP request.
    Start,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// One connection, opened to closed.
    Connection,
    /// One message there and back.
    Message,
    /// 10^9 bytes.
    Gigabyte,
    /// One HTTP request.
    Request,
}

impl Unit {
    /// For people, in the singular.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Message => "message",
            Self::Gigabyte => "GB",
            Self::Request => "request",
        }
    }
}

impl Workload {
    /// Whether the proxy sees HTTP (its L7 listener) and not mere bytes.
    #[must_use]
    pub fn is_http(&self) -> bool {
        match self.kind {
            Kind::Http { .. } | Kind::Start | Kind::Idle { http: true } => true,
            Kind::Churn { .. }
            | Kind::Messages
            | Kind::Bulk { .. }
            | Kind::Idle { http: false } => false,
        }
    }

    /// What its throughput and its CPU time are given per.
    #[must_use]
    pub fn unit(&self) -> Unit {
        match self.kind {
            Kind::Churn { .. } | Kind::Idle { .. } => Unit::Connection,
            Kind::Messages => Unit::Message,
            Kind::Bulk { .. } => Unit::Gigabyte,
            Kind::Http { .. } | Kind::Start => Unit::Request,
        }
    }
}

/// Load before the measurement, as a share of it: pools fill, windows open, caches warm.
#[must_use]
pub fn warm_up(duration: Duration) -> Duration {
    (duration / 4).clamp(Duration::from_millis(100), Duration::from_secs(1))
}

const fn closed(
    name: &'static str,
    title: &'static str,
    kind: Kind,
    connections: usize,
) -> Workload {
    Workload {
        name,
        title,
        kind,
        connections,
        rate_per_s: None,
        tls: None,
    }
}

const fn over_tls(tls: Tls, workload: Workload) -> Workload {
    Workload {
        tls: Some(tls),
        ..workload
    }
}

const fn http(body_bytes: usize, close: bool) -> Kind {
    Kind::Http { body_bytes, close }
}

const CLIENT_CLOSES: Kind = Kind::Churn {
    backend_closes: false,
};
const BACKEND_CLOSES: Kind = Kind::Churn {
    backend_closes: true,
};
const UP: Kind = Kind::Bulk { up: true };
const DOWN: Kind = Kind::Bulk { up: false };
const ECDSA: Tls = Tls::new(Key::Ecdsa, Version::V13);
const ECDSA_12: Tls = Tls::new(Key::Ecdsa, Version::V12);
const RSA: Tls = Tls::new(Key::Rsa, Version::V13);
/// Certificates of the largest start.
pub const CERTIFICATES_MAX: usize = 1_000;

/// All of them, in the order of the report.
pub const ALL: &[Workload] = &[
    closed(
        "l4-churn",
        "L4 new connection per echo, client closes",
        CLIENT_CLOSES,
        64,
    ),
    closed(
        "l4-churn-backend",
        "L4 new connection per echo, backend closes",
        BACKEND_CLOSES,
        64,
    ),
    closed(
        "l4-messages",
        "L4 128-byte messages, 64 connections",
        Kind::Messages,
        64,
    ),
    closed("l4-up-1", "L4 bulk to the backend, 1 stream", UP, 1),
    closed("l4-down-1", "L4 bulk to the client, 1 stream", DOWN, 1),
    closed("l4-up-4", "L4 bulk to the backend, 4 streams", UP, 4),
    closed("l4-down-4", "L4 bulk to the client, 4 streams", DOWN, 4),
    closed(
        "l7-keepalive",
        "L7 128-byte answers, 64 kept connections",
        http(128, false),
        64,
    ),
    closed(
        "l7-churn",
        "L7 128-byte answers, Connection: close",
        http(128, true),
        64,
    ),
    closed(
        "l7-64k",
        "L7 64 KiB answers, 16 kept connections",
        http(64 << 10, false),
        16,
    ),
    closed(
        "l7-1m",
        "L7 1 MiB answers, 8 kept connections",
        http(1 << 20, false),
        8,
    ),
    Workload {
        name: "l4-rate",
        title: "L4 2,000 new connections a second",
        kind: CLIENT_CLOSES,
        connections: 0,
        rate_per_s: Some(2000),
        tls: None,
    },
    Workload {
        name: "l4-rate-messages",
        title: "L4 2,000 messages a second, 64 connections",
        kind: Kind::Messages,
        connections: 64,
        rate_per_s: Some(2000),
        tls: None,
    },
    Workload {
        name: "l7-rate",
        title: "L7 2,000 requests a second, 64 connections",
        kind: http(128, false),
        connections: 64,
        rate_per_s: Some(2000),
        tls: None,
    },
    closed(
        "idle-l4",
        "L4 idle connections",
        Kind::Idle { http: false },
        10_000,
    ),
    closed(
        "idle-l7",
        "L7 idle kept connections",
        Kind::Idle { http: true },
        10_000,
    ),
    closed("start", "Start to the first answer", Kind::Start, 1),
    over_tls(
        ECDSA,
        closed(
            "tls-new-ecdsa",
            "TLS 1.3 new connection per request, ECDSA P-256",
            http(128, true),
            64,
        ),
    ),
    over_tls(
        RSA,
        closed(
            "tls-new-rsa",
            "TLS 1.3 new connection per request, RSA 2048",
            http(128, true),
            64,
        ),
    ),
    over_tls(
        ECDSA.resumed(),
        closed(
            "tls-resumed",
            "TLS 1.3 resumed session per request",
            http(128, true),
            64,
        ),
    ),
    over_tls(
        ECDSA_12.resumed(),
        closed(
            "tls-resumed-12",
            "TLS 1.2 resumed session per request",
            http(128, true),
            64,
        ),
    ),
    over_tls(
        ECDSA,
        closed(
            "tls-keepalive",
            "TLS 128-byte answers, 64 kept connections",
            http(128, false),
            64,
        ),
    ),
    over_tls(
        ECDSA,
        closed(
            "tls-64k",
            "TLS 64 KiB answers, 16 kept connections",
            http(64 << 10, false),
            16,
        ),
    ),
    over_tls(
        ECDSA,
        closed(
            "tls-1m",
            "TLS 1 MiB answers, 8 kept connections",
            http(1 << 20, false),
            8,
        ),
    ),
    over_tls(
        ECDSA,
        closed("tls-up-4", "TLS TCP bulk to the backend, 4 streams", UP, 4),
    ),
    over_tls(
        ECDSA,
        closed(
            "tls-down-4",
            "TLS TCP bulk to the client, 4 streams",
            DOWN,
            4,
        ),
    ),
    over_tls(
        ECDSA,
        closed(
            "tls-idle",
            "TLS idle kept connections",
            Kind::Idle { http: true },
            10_000,
        ),
    ),
    over_tls(
        ECDSA,
        closed(
            "tls-start",
            "TLS start to the first answer, 1 certificate",
            Kind::Start,
            1,
        ),
    ),
    over_tls(
        ECDSA.beside(CERTIFICATES_MAX - 1),
        closed(
            "tls-start-1000",
            "TLS start to the first answer, 1,000 certificates",
            Kind::Start,
            1,
        ),
    ),
];
