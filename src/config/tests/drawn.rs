//! Properties over drawn files: no text makes the compiler panic, and what is rendered compiles
//! back to the same model.

use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::config::model::{
    AccessLog, Admin, AdminRead, AdminSocket, Backend, CertificateFiles, CertificateSource,
    ClientAuthSource, EjectPolicy, ErrorPage, FixedResponse, ForwardedFields, HeaderEdits,
    HealthCheck, HostPattern, Http, HttpsRedirect, IdentityFiles, InitialState, Keepalive,
    Listener, ListenerTls, LogFormat, LogWhen, Network, Passive, Privileges, ProxyProtocol,
    ProxyVersion, Route, StatePlace, Sticky, StickyCookie, Thresholds, TimeoutOverrides, Timeouts,
    TlsRoute, TlsVersion, Upstream, UpstreamTls, WhenAllDown,
};
use crate::wire::bundle::Bundle;

fn ms(range: std::ops::RangeInclusive<u64>) -> impl Strategy<Value = Duration> + Clone {
    range.prop_map(Duration::from_millis)
}

fn timeout() -> impl Strategy<Value = Duration> + Clone {
    ms(1..=7 * 24 * 60 * 60 * 1000)
}

fn seconds(range: std::ops::RangeInclusive<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_secs)
}

/// Text of any kind that YAML can hold.
fn any_text() -> impl Strategy<Value = String> {
    "[ -~\u{a0}-\u{2fff}\n\t\u{1f600}]{0,40}"
}

fn keepalive() -> BoxedStrategy<Option<Keepalive>> {
    let some = (seconds(1..=32_767), seconds(1..=32_767), 1..=127_u32);
    prop::option::of(some.prop_map(|(idle, interval, probes)| Keepalive {
        idle,
        interval,
        probes,
    }))
    .boxed()
}

fn timeouts(http: bool) -> BoxedStrategy<Timeouts> {
    let l4 = (timeout(), timeout(), timeout(), timeout());
    let client = (timeout(), timeout(), timeout(), timeout());
    let backend = (timeout(), timeout(), timeout());
    (l4, client, backend)
        .prop_map(
            move |((connect, handshake, idle, half_closed), client, backend)| {
                let l4 = Timeouts {
                    connect,
                    handshake,
                    idle,
                    half_closed,
                    ..Timeouts::default()
                };
                if !http {
                    return l4;
                }
                Timeouts {
                    header: client.0,
                    keep_alive: client.1,
                    upload: client.2,
                    send: client.3,
                    response: backend.0,
                    response_idle: backend.1,
                    tunnel: backend.2,
                    ..l4
                }
            },
        )
        .boxed()
}

fn overrides(http: bool) -> BoxedStrategy<TimeoutOverrides> {
    let one = || prop::option::of(timeout());
    let l4 = (one(), one(), one());
    let l7 = (one(), one(), one(), one(), one());
    (l4, l7)
        .prop_map(move |(l4, l7)| TimeoutOverrides {
            connect: l4.0,
            idle: l4.1,
            half_closed: l4.2,
            upload: l7.0.filter(|_| http),
            response: l7.1.filter(|_| http),
            response_idle: l7.2.filter(|_| http),
            send: l7.3.filter(|_| http),
            tunnel: l7.4.filter(|_| http),
        })
        .boxed()
}

/// What a route may set, if it forwards at all.
fn overrides_of_route(forwards: bool, drawn: TimeoutOverrides) -> TimeoutOverrides {
    if !forwards {
        return TimeoutOverrides::default();
    }
    TimeoutOverrides {
        idle: None,
        half_closed: None,
        ..drawn
    }
}

/// Backends with distinct addresses and identities.
fn backends() -> BoxedStrategy<Vec<Backend>> {
    let kind = (
        0..4_u8,
        0..=65_535_u32,
        prop::option::of(1..=1_000_u32),
        "[!#-&(-+\\--\\[\\]-_a-z|~]{0,8}",
    );
    prop::collection::vec(kind, 1..5)
        .prop_map(|drawn| {
            let backend =
                |(index, (kind, weight, connections_max, id)): (usize, (u8, u32, _, String))| {
                    let port = u16::try_from(index + 1).unwrap_or(1);
                    let ip = |text: String| {
                        BackendAddress::Fixed(Address::Ip(text.parse().expect("an address")))
                    };
                    let address = match kind {
                        0 => ip(format!("10.0.0.1:{port}")),
                        1 => ip(format!("[fe80::1%3]:{port}")),
                        2 => BackendAddress::Fixed(Address::Unix(
                            format!("/run/a b\u{e9}{port}").into(),
                        )),
                        _ => BackendAddress::Name {
                            host: "app-1.internal".to_owned(),
                            port,
                        },
                    };
                    Backend {
                        identity: format!("{index}{id}"),
                        address,
                        weight,
                        connections_max,
                    }
                };
            drawn.into_iter().enumerate().map(backend).collect()
        })
        .boxed()
}

fn algorithm(http: bool) -> BoxedStrategy<AlgorithmSettings> {
    let all = prop_oneof![
        Just(AlgorithmSettings::RoundRobin),
        Just(AlgorithmSettings::LeastConn),
        Just(AlgorithmSettings::RandomTwo),
        (1..=128_u8).prop_map(
            |ipv6_prefix_bits| AlgorithmSettings::Hash(HashKey::ClientIp { ipv6_prefix_bits })
        ),
        Just(AlgorithmSettings::Hash(HashKey::Header(
            "X-User".to_owned()
        ))),
        Just(AlgorithmSettings::Hash(HashKey::Cookie("a|b".to_owned()))),
        Just(AlgorithmSettings::Hash(HashKey::Uri)),
    ];
    all.prop_map(move |algorithm| match algorithm {
        AlgorithmSettings::Hash(HashKey::Header(_) | HashKey::Cookie(_) | HashKey::Uri)
            if !http =>
        {
            AlgorithmSettings::RoundRobin
        }
        other @ (AlgorithmSettings::RoundRobin
        | AlgorithmSettings::LeastConn
        | AlgorithmSettings::RandomTwo
        | AlgorithmSettings::Hash(_)) => other,
    })
    .boxed()
}

fn health_check() -> BoxedStrategy<Option<HealthCheck>> {
    let range = 100..=86_400_000_u64;
    let times = range.clone().prop_flat_map(move |interval| {
        let interval_time = Just(Duration::from_millis(interval));
        (
            interval_time,
            ms(1..=interval),
            ms(100..=interval),
            ms(range.clone()),
        )
    });
    let status = (100..=599_u16, 100..=599_u16).prop_map(|(a, b)| (a.min(b), a.max(b)));
    let host = prop_oneof![Just("app.example.com"), Just("[::1]:80"), Just("10.0.0.1")];
    let probe = (
        "/[!-\"$-~]{0,10}",
        prop::option::of(host.prop_map(str::to_owned)),
        prop::collection::vec(status, 1..4),
    );
    let kind = prop::option::of(probe).prop_map(|probe| match probe {
        None => ProbeKind::Tcp,
        Some((path, host, statuses)) => ProbeKind::Http {
            path,
            host,
            statuses,
        },
    });
    let initial = prop_oneof![Just(InitialState::Up), Just(InitialState::Down)];
    let all = (times, 1..=100_u32, 1..=100_u32, initial, kind);
    prop::option::of(
        all.prop_map(|(times, rise, fall, initial, kind)| HealthCheck {
            interval: times.0,
            timeout: times.1,
            thresholds: Thresholds { rise, fall },
            fast_interval: times.2,
            down_interval: times.3,
            initial,
            kind,
        }),
    )
    .boxed()
}

fn passive(http: bool) -> BoxedStrategy<Passive> {
    let eject = (100..=86_400_000_u64)
        .prop_flat_map(|eject| (Just(Duration::from_millis(eject)), ms(eject..=86_400_000)));
    let all = (0..=1_000_u32, eject, 0..=100_u32, any::<bool>());
    all.prop_map(
        move |(failures, (eject, eject_max), percent, count_5xx)| Passive {
            policy: EjectPolicy {
                failures,
                eject,
                eject_max,
            },
            eject_percent_max: percent,
            count_5xx: count_5xx && http,
        },
    )
    .boxed()
}

fn sticky() -> BoxedStrategy<Option<Sticky>> {
    let cookie = (
        "[a-zA-Z_.-]{1,8}",
        prop::option::of(Just("example.com".to_owned())),
        prop::option::of(seconds(1..=34_560_000)),
        prop_oneof![Just("Lax"), Just("Strict"), Just("None")],
        any::<bool>(),
        any::<bool>(),
        any_text().prop_filter("not empty", |text| !text.is_empty()),
        ms(0..=60_000),
    );
    let insert = cookie.prop_map(|c| {
        Sticky::Insert(StickyCookie {
            name: c.0,
            domain: c.1,
            max_age: c.2,
            same_site: c.3.to_owned(),
            secure: c.4 || c.3 == "None",
            cache_private: c.5,
            secret: c.6,
            wait: c.7,
        })
    });
    let hash = Just(Sticky::HashCookie("JSESSIONID".to_owned()));
    prop::option::of(prop_oneof![insert, hash]).boxed()
}

fn error_pages() -> BoxedStrategy<Vec<ErrorPage>> {
    prop::collection::btree_map(400..=599_u16, any_text(), 0..3)
        .prop_map(|pages| {
            let page = |(status, body): (u16, String)| ErrorPage {
                status,
                content_type: "text/plain".to_owned(),
                body: body.into_bytes(),
            };
            pages.into_iter().map(page).collect()
        })
        .boxed()
}

fn upstream(name: &'static str, http: bool) -> BoxedStrategy<Upstream> {
    let policy = prop_oneof![Just(WhenAllDown::Refuse), Just(WhenAllDown::UseAll)];
    let l4 = (
        algorithm(http),
        backends(),
        health_check(),
        passive(http),
        policy,
        overrides(http),
        1..=100_u32,
        keepalive(),
        upstream_tls(),
        prop_oneof![
            Just(None),
            Just(Some(ProxyVersion::V1)),
            Just(Some(ProxyVersion::V2)),
        ],
    );
    let l7 = (
        sticky(),
        0..=65_535_usize,
        timeout(),
        0..=100_u32,
        0..=1_000_u32,
        error_pages(),
        any::<bool>(),
    );
    (l4, l7)
        .prop_map(move |(l4, l7)| {
            let plain = Upstream {
                name: name.to_owned(),
                algorithm: l4.0,
                backends: l4.1,
                health_check: l4.2,
                passive: l4.3,
                when_all_down: l4.4,
                timeouts: l4.5,
                tries_max: l4.6,
                keepalive: l4.7,
                tls: l4.8,
                send_proxy: l4.9,
                ..crate::config::upstream::base(None)
            };
            if !http {
                return plain;
            }
            Upstream {
                sticky: l7.0,
                idle_connections_max: l7.1,
                idle_connection_timeout: l7.2,
                retry_budget_percent: l7.3,
                retry_budget_min_per_s: l7.4,
                error_pages: l7.5,
                abort_on_close: l7.6,
                ..plain
            }
        })
        .boxed()
}

/// Fields whose names differ, each with one value, or with several where that is allowed.
fn fields(values_max: usize) -> impl Strategy<Value = Vec<(String, String)>> {
    let value = "([!-~]([ -~]{0,8}[!-~])?)?";
    let values = prop::collection::vec(value, 1..=values_max);
    prop::collection::vec(values, 0..3).prop_map(|drawn| {
        let named = drawn.into_iter().enumerate();
        let fields = named
            .flat_map(|(index, values)| values.into_iter().map(move |v| (format!("X-{index}"), v)));
        fields.collect()
    })
}

fn edits() -> BoxedStrategy<HeaderEdits> {
    let remove = prop::collection::vec("X-[a-z]{1,5}", 0..3);
    (remove, fields(1), fields(3))
        .prop_map(|(remove, set, add)| HeaderEdits { remove, set, add })
        .boxed()
}

/// A route with a prefix of its own.
fn route(index: usize) -> BoxedStrategy<Route> {
    let host = prop_oneof![
        Just(HostPattern::Any),
        Just(HostPattern::Exact("example.com".to_owned())),
        Just(HostPattern::Suffix(".example.com".to_owned())),
    ];
    let methods = prop_oneof![
        Just(Vec::new()),
        Just(vec!["GET".to_owned(), "PROP-X".to_owned()])
    ];
    let action = prop_oneof![
        (0..2_usize).prop_map(Action::Proxy),
        (any_text(), fields(2)).prop_map(|(body, headers)| Action::Respond(FixedResponse {
            status: 200,
            headers,
            body,
        })),
        "[!-~]{1,10}".prop_map(|location| Action::Redirect {
            status: 308,
            location
        }),
    ];
    let all = (
        host,
        methods,
        any::<bool>(),
        edits(),
        edits(),
        prop::option::of(any::<u64>()),
        action,
        prop::option::of(any::<bool>()),
        overrides(true),
    );
    all.prop_map(move |all| Route {
        host: all.0,
        prefix: format!("/{index}/%2F~"),
        methods: all.1,
        access_log: all.2,
        strip_prefix: all.2 && matches!(all.6, Action::Proxy(_)),
        request_headers: all.3,
        response_headers: all.4,
        body_bytes_max: all.5,
        abort_on_close: all.7.filter(|_| matches!(all.6, Action::Proxy(_))),
        timeouts: overrides_of_route(matches!(all.6, Action::Proxy(_)), all.8),
        action: all.6,
    })
    .boxed()
}

fn forwarded_fields() -> impl Strategy<Value = ForwardedFields> {
    let names = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        prop::sample::subsequence(names, 0..=3)
    };
    let drop = names(&["X-Tenant", "user_agent", "Cookie"]);
    let keep = names(&["X-Forwarded-Prefix", "x_ssl_cert", "REMOTE_USER"]);
    (drop, keep).prop_map(|(drop, keep)| ForwardedFields { drop, keep })
}

fn network() -> impl Strategy<Value = Network> {
    let network = prop_oneof![
        Just(("10.0.0.0", 8)),
        Just(("0.0.0.0", 0)),
        Just(("192.0.2.1", 32)),
        Just(("2001:db8::", 32)),
        Just(("::", 0)),
        Just(("::ffff:10.0.0.0", 104)),
    ];
    network.prop_map(|(address, prefix_bits)| {
        Network::new(address.parse().expect("an address"), prefix_bits)
    })
}

/// Either kind of peers, so that it is good for a listener on any address.
fn proxy_protocol() -> impl Strategy<Value = ProxyProtocol> {
    let from = prop::collection::vec(network(), 1..3);
    from.prop_map(|from| ProxyProtocol {
        from,
        from_unix: true,
    })
}

fn http_mode() -> BoxedStrategy<Http> {
    let routes = (route(0), route(1), route(2), 1..=3_usize)
        .prop_map(|(a, b, c, count)| [a, b, c].into_iter().take(count).collect::<Vec<_>>());
    let all = (
        routes,
        prop::collection::vec(network(), 0..3),
        prop::option::of("[a-z0-9_-]{1,8}"),
        (
            any::<bool>(),
            any::<bool>(),
            prop::option::of("X-[A-Z][a-z0-9]{1,8}-Id"),
        ),
        1_024..=4_096_usize,
        10..=256_usize,
        prop::option::of(any::<u64>()),
        prop::option::of(1..=4_000_000_000_u64),
        error_pages(),
        forwarded_fields(),
        prop::option::of((prop::sample::select(vec![301, 308]), 1..=65_535_u16)),
        (
            prop::option::of(seconds(0..=730 * 24 * 60 * 60)),
            prop::option::of("/[a-z0-9]{0,8}"),
        ),
    );
    all.prop_map(|all| Http {
        routes: all.0,
        trusted_proxies: all.1,
        via: all.2,
        forwarded: all.3.0,
        trace: all.3.1,
        request_id: all.3.2,
        head_bytes_max: all.4,
        fields_max: all.5,
        body_bytes_max: all.6,
        requests_max: all.7,
        error_pages: all.8,
        forwarded_fields: all.9,
        redirect_to_https: all.10.map(|(status, port)| HttpsRedirect { status, port }),
        hsts: all.11.0,
        monitor_path: all.11.1,
    })
    .boxed()
}

fn tls_routes() -> impl Strategy<Value = Vec<TlsRoute>> {
    let routes = vec![
        (HostPattern::Any, None),
        (HostPattern::Any, Some("acme-tls/1".to_owned())),
        (HostPattern::Exact("a.example".to_owned()), None),
        (
            HostPattern::Suffix(".a.example".to_owned()),
            Some("\"[h2".to_owned()),
        ),
    ];
    let route = |(host, alpn)| TlsRoute {
        host,
        alpn,
        upstream: 2,
    };
    let routes = prop::sample::subsequence(routes, 1..=4);
    routes.prop_map(move |all| all.into_iter().map(route).collect())
}

fn relayed_mode() -> impl Strategy<Value = Mode> {
    prop_oneof![
        Just(Mode::Tcp { upstream: 2 }),
        tls_routes().prop_map(|routes| Mode::Tls { routes }),
    ]
}

fn path() -> BoxedStrategy<PathBuf> {
    "[a-z/. \"]{1,8}".prop_map(PathBuf::from).boxed()
}

fn identity() -> BoxedStrategy<IdentityFiles> {
    (path(), prop::option::of(path()))
        .prop_map(|(certificate, key)| IdentityFiles { certificate, key })
        .boxed()
}

fn certificate() -> impl Strategy<Value = CertificateSource> {
    let names = prop::collection::vec("(\\*\\.)?[a-z]{1,9}", 0..3);
    let client = (path(), any::<bool>(), prop::option::of(path()));
    let client = client.prop_map(|(authorities, is_required, revocations)| ClientAuthSource {
        authorities,
        is_required,
        revocations,
    });
    let files = prop_oneof![
        (identity(), names).prop_map(|(files, names)| (CertificateFiles::Pair(files), names)),
        path().prop_map(|path| (CertificateFiles::Directory(path), Vec::new())),
    ];
    (files, prop::option::of(client)).prop_map(|((files, names), client_auth)| CertificateSource {
        files,
        names,
        client_auth,
    })
}

fn listener_tls(http: bool) -> impl Strategy<Value = Option<Box<ListenerTls>>> {
    const SUITES: [&str; 2] = [
        "TLS_AES_128_GCM_SHA256",
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    ];
    let suite = prop::sample::select(&SUITES[..]).prop_map(str::to_owned);
    let all = (
        prop::collection::vec(certificate(), 1..4),
        any::<bool>(),
        prop::collection::vec(suite, 0..3),
        any::<bool>(),
        prop::collection::vec(path(), 0..3),
        tls_routes(),
        prop::sample::subsequence(vec!["postgresql", "h2"], 0..=if http { 0 } else { 2 }),
    );
    let all = all.prop_map(|all| ListenerTls {
        certificates: all.0,
        min_version: match all.1
            && (all.2.is_empty() || all.2.iter().any(|suite| suite == SUITES[0]))
        {
            true => TlsVersion::V13,
            false => TlsVersion::V12,
        },
        cipher_suites: all.2,
        strict_sni: all.3,
        ticket_keys: all.4,
        passthrough: all.5,
        alpn: all.6.into_iter().map(str::to_owned).collect(),
    });
    prop::option::of(all.prop_map(Box::new))
}

fn upstream_tls() -> impl Strategy<Value = Option<Box<UpstreamTls>>> {
    let name = prop_oneof![Just("api.internal"), Just("10.0.0.1"), Just("::1")];
    let all = (path(), name, prop::option::of(identity()), any::<bool>());
    let all = all.prop_map(|(authorities, name, identity, verify)| UpstreamTls {
        authorities,
        server_name: Some(name.to_owned()),
        identity,
        verify,
        alpn: Vec::new(),
    });
    prop::option::of(all.prop_map(Box::new))
}

fn listener(index: usize, http: bool) -> BoxedStrategy<Listener> {
    let address = prop_oneof![
        Just(format!("0.0.0.0:{}", index + 1)),
        Just(format!("[::]:{}", index + 1)),
        Just("127.0.0.1:0".to_owned()),
        Just(format!("[::1]:{}", index + 1)),
    ];
    let address = address.prop_map(|text| Address::Ip(text.parse().expect("an address")));
    let unix = Just(Address::Unix(format!("/run/{index}: \"x\"").into()));
    let all = (
        prop_oneof![4 => address, 1 => unix],
        1..=i32::MAX,
        keepalive(),
        prop::option::of(1..=100_000_000_usize),
        timeouts(http),
        http_mode(),
        prop::option::of(proxy_protocol()),
        relayed_mode(),
        listener_tls(http),
    );
    all.prop_map(move |all| Listener {
        // Nothing is decrypted where all is led on.
        tls: all.8.filter(|_| http || !matches!(all.7, Mode::Tls { .. })),
        name: format!("l{index}"),
        address: all.0,
        backlog: all.1,
        keepalive: all.2,
        proxy_protocol: all.6,
        connections_max: all.3,
        timeouts: all.4,
        mode: if http {
            Mode::Http(Box::new(all.5))
        } else {
            all.7
        },
    })
    .boxed()
}

fn privileges() -> impl Strategy<Value = Privileges> {
    let account = || prop::option::of("[0-9]{1,9}|on|off|[a-z_][a-z0-9._-]{4,20}");
    let chroot = prop::option::of("/[a-z /]{0,8}");
    (account(), account(), chroot, any::<bool>()).prop_map(|(user, group, chroot, sandbox)| {
        Privileges {
            user,
            group,
            chroot: chroot.map(Into::into),
            sandbox,
        }
    })
}

fn admin() -> impl Strategy<Value = Admin> {
    let socket = prop_oneof![
        Just(AdminSocket::Auto),
        Just(AdminSocket::Off),
        "/run/[a-z ]{1,8}".prop_map(|path| AdminSocket::At(path.into())),
    ];
    let read = prop_oneof![
        Just(AdminRead::Auto),
        Just(AdminRead::Open),
        Just(AdminRead::Token)
    ];
    let listen = prop::option::of(1..=u16::MAX);
    (socket, listen, prop::option::of("/etc/[a-z ]{1,8}"), read).prop_map(
        |(socket, port, token_file, read)| Admin {
            socket,
            listen: port.map(|port| Address::Ip(([127, 0, 0, 1], port).into())),
            // It needs one.
            read: match token_file {
                Some(_) => read,
                None => AdminRead::Auto,
            },
            token_file: token_file.map(Into::into),
        },
    )
}

fn state() -> impl Strategy<Value = StatePlace> {
    prop_oneof![
        Just(StatePlace::Auto),
        Just(StatePlace::Memory),
        "/var/[a-z ]{1,8}".prop_map(|path| StatePlace::At(path.into())),
    ]
}

fn config() -> BoxedStrategy<Config> {
    let level = prop_oneof![Just(log::LevelFilter::Off), Just(log::LevelFilter::Trace)];
    let format = prop_oneof![
        Just(LogFormat::Common),
        Just(LogFormat::Combined),
        Just(LogFormat::Json),
        "[a-z |\"']{0,9}\\{(client|header:[A-Z]{1,4})\\}".prop_map(LogFormat::Own),
    ];
    let when = (
        prop::option::of(ms(1..=86_400_000)),
        1..=1_000_000_u32,
        any::<bool>(),
    );
    let when = when.prop_map(|(slower_than, sample_ppm, has_statuses)| LogWhen {
        statuses: if has_statuses {
            vec![(400, 599), (204, 204)]
        } else {
            Vec::new()
        },
        slower_than,
        sample_ppm,
    });
    let path = "/var/log/[a-z ]{1,8}\\.log";
    let socket = Address::Unix("/dev/log".into());
    let daemon = prop_oneof![
        Just(socket),
        Just(Address::Ip(([127, 0, 0, 1], 514).into()))
    ];
    let place = prop_oneof![
        prop::option::of(path).prop_map(|path| (path, None, 16)),
        (daemon, 16..24_u8).prop_map(|(daemon, facility)| (None, Some(daemon), facility)),
    ];
    let access_log = (place, format, prop::option::of(when));
    let access_log = access_log.prop_map(|((path, syslog, facility), format, when)| AccessLog {
        path: path.map(Into::into),
        // What is not usual is drawn with the facility.
        syslog_format: match &syslog {
            Some(Address::Unix(_)) if facility % 2 == 0 => SyslogFormat::Local,
            Some(_) | None => SyslogFormat::Rfc5424,
        },
        syslog,
        facility,
        format,
        when,
    });
    let process = (
        ms(0..=86_400_000),
        ms(0..=86_400_000),
        prop::option::of(ms(1_000..=86_400_000)),
        level,
        prop::option::of(1..=100_000_000_usize),
        8_192..=65_536_usize,
        prop::option::of(1_048_576..=1_000_000_000_usize),
        any::<bool>(),
        prop::option::of(access_log),
        prop::option::of(1..=60_usize),
        any::<(bool, bool)>(),
        (privileges(), admin(), state()),
    );
    let listeners = (listener(0, true), listener(1, false));
    let upstreams = (
        upstream("a", true),
        upstream("b:/c?", true),
        upstream("null", false),
    );
    (process, listeners, upstreams)
        .prop_map(|(process, listeners, upstreams)| Config {
            material: Arc::default(),
            listeners: vec![listeners.0, listeners.1],
            upstreams: vec![upstreams.0, upstreams.1, upstreams.2],
            workers: process.9,
            always_supervised: process.10.0,
            stops_with_supervisor: process.10.1,
            drain_timeout: process.0,
            pre_drain: process.1,
            stats_interval: process.2,
            log_level: process.3,
            connections_max: process.4,
            buffer_bytes: process.5,
            buffer_memory_bytes: process.6,
            splice: process.7,
            access_log: process.8,
            privileges: process.11.0,
            admin: process.11.1,
            state: process.11.2,
        })
        .boxed()
}

/// Lines that look like a configuration, often wrong.
fn yaml_like() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        Just("listen"),
        Just("backends"),
        Just("routes"),
        Just("listeners"),
        Just("upstreams"),
        Just("upstream"),
        Just("prefix"),
        Just("health_check"),
        Just("interval"),
        Just("timeouts"),
        Just("sticky"),
        Just("hash"),
        Just("error_pages"),
        Just("respond"),
        Just("headers"),
        Just("set"),
        Just("limits"),
        Just("buffers"),
        Just("address"),
        Just("a"),
        Just("keepalive"),
        Just("trusted_proxies"),
        Just("redirect_to_https"),
        Just("hsts"),
        Just("alpn"),
        Just("forwarded_fields"),
        Just("access_log"),
        Just("via"),
        Just("request_id"),
        Just("trace"),
        Just("algorithm"),
        Just("\"x"),
        Just("?"),
        Just("<<"),
        Just("503"),
        Just("redirect"),
        Just("methods"),
        Just("passive"),
    ];
    let value = prop_oneof![
        Just(""),
        Just("\":80\""),
        Just("5s"),
        Just("[a:1]"),
        Just("{}"),
        Just("[]"),
        Just("off"),
        Just("-5"),
        Just("1e400"),
        Just("99999999999999999999999999999999999999999"),
        Just("~"),
        Just("&x a"),
        Just("*x"),
        Just("!t a"),
        Just("|"),
        Just(">-"),
        Just("{a: b"),
        Just("[*x]"),
        Just("\"\\u0000\""),
        Just("unix:/é"),
        Just("'"),
        Just("{prefix: /, backends: [a:1]}"),
        Just("10.0.0.0/99"),
        Just("header X"),
        Just(".nan"),
        Just("\u{feff}"),
        Just("&x [*x]"),
    ];
    let line = (0..4_usize, prop_oneof!["", "- ", "- - "], key, value);
    let line = line.prop_map(|(depth, dash, key, value)| {
        format!("{}{dash}{key}: {value}\n", "  ".repeat(depth))
    });
    prop::collection::vec(line, 0..12).prop_map(|lines| lines.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_rendered_compiles_back_to_the_same_model(config in config()) {
        let text = render(&config);
        let compiled = compile("f", &text, &mut no_files);
        match compiled {
            Ok(compiled) => prop_assert_eq!(compiled.config, config, "{}", text),
            Err(problems) => prop_assert!(false, "{:?}\n{}", problems, text),
        }
    }

    #[test]
    fn what_is_handed_over_arrives_as_the_same_model(config in config()) {
        let fd = Bundle::write(&config, &[], &[]).expect("memory");
        prop_assert_eq!(Bundle::read(fd).expect("a bundle").config, config);
    }

    #[test]
    fn a_file_is_good_or_has_errors_with_places_in_it(text in yaml_like()) {
        match compile("f", &text, &mut no_files) {
            Ok(compiled) => {
                let again = compile("f", &render(&compiled.config), &mut no_files);
                prop_assert_eq!(again.map(|c| c.config), Ok(compiled.config));
            }
            Err(problems) => {
                prop_assert!(!problems.is_empty());
                let lines = text.lines().count() + 1;
                for problem in problems {
                    let at = problem.at.expect("a place");
                    prop_assert!(at.line >= 1 && at.line <= lines, "{}", problem);
                }
            }
        }
    }

    #[test]
    fn no_text_makes_the_compiler_panic(text in any::<String>()) {
        let _ = compile("f", &text, &mut no_files);
    }

    #[test]
    fn one_value_changed_in_a_good_file_is_good_or_an_error(
        line in 0..200_usize,
        value in prop_oneof!["[ -~]{0,12}", Just("[]".to_owned()), Just("{}".to_owned())],
    ) {
        let reference = include_str!("../../../conf/reference.yaml");
        let mut lines: Vec<String> = reference.lines().map(str::to_owned).collect();
        let at = line % lines.len();
        if let Some((key, _)) = lines[at].clone().split_once(':') {
            lines[at] = format!("{key}: {value}");
        }
        let text = lines.join("\n");
        if let Ok(compiled) = compile("f", &text, &mut no_files) {
            let again = compile("f", &render(&compiled.config), &mut no_files);
            prop_assert_eq!(again.map(|c| c.config), Ok(compiled.config), "{}", text);
        }
    }
}
