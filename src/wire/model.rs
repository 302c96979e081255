//! A compiled configuration as bytes, so that whoever gets it need not compile it again.

use crate::config::model::{
    AccessLog, Action, Admin, AdminRead, AdminSocket, AlgorithmSettings, Backend, CertificateFiles,
    CertificateSource, ClientAuthSource, Config, EjectPolicy, ErrorPage, FixedResponse,
    ForwardedFields, HashKey, HeaderEdits, HealthCheck, HostPattern, Http, HttpsRedirect,
    IdentityFiles, InitialState, Keepalive, Listener, ListenerTls, LogFormat, LogWhen, Mode,
    Network, Passive, Privileges, ProbeKind, ProxyProtocol, ProxyVersion, Route, StatePlace,
    Sticky, StickyCookie, Thresholds, TimeoutOverrides, Timeouts, TlsRoute, TlsVersion, Upstream,
    UpstreamTls, WhenAllDown,
};
use crate::core::access_log::form::SyslogFormat;
use crate::core::address::{Address, BackendAddress};
use crate::tls::material::{
    Certificate, ClientAuth, Identity, ListenerMaterial, Material, TicketKey, UpstreamMaterial,
};
use crate::wire::value::{choices, fingerprint, structures};

/// Tells the forms of different versions apart.
pub(super) const FORM: u64 = fingerprint(PARTS) ^ fingerprint(env!("CARGO_PKG_VERSION"));

macro_rules! parts {
    ({ $($structures:tt)+ } { $($choices:tt)+ }) => {
        structures! { $($structures)+ }
        choices! { $($choices)+ }

        const PARTS: &str = stringify!($($structures)+ $($choices)+);
    };
}

parts! {
    {
        Config {
            listeners, upstreams, workers, always_supervised, stops_with_supervisor,
            drain_timeout, pre_drain, stats_interval, log_level, connections_max, buffer_bytes,
            buffer_memory_bytes, splice, access_log, admin, state, privileges,
            material,
        }
        Admin { socket, listen, token_file, read }
        Privileges { user, group, chroot, sandbox }
        AccessLog { path, syslog, syslog_format, facility, format, when }
        LogWhen { statuses, slower_than, sample_ppm }
        Keepalive { idle, interval, probes }
        Listener {
            name, address, backlog, keepalive, proxy_protocol, connections_max, timeouts, tls,
            mode,
        }
        ListenerTls {
            certificates, min_version, cipher_suites, strict_sni, alpn, ticket_keys, passthrough,
        }
        CertificateSource { files, names, client_auth }
        IdentityFiles { certificate, key }
        ClientAuthSource { authorities, is_required, revocations }
        UpstreamTls { authorities, server_name, identity, verify, alpn }
        ProxyProtocol { from, from_unix }
        Timeouts {
            connect, handshake, idle, half_closed, header, keep_alive, upload, response,
            response_idle, send, tunnel,
        }
        TlsRoute { host, alpn, upstream }
        TimeoutOverrides {
            connect, idle, half_closed, upload, response, response_idle, send, tunnel,
        }
        Http {
            routes, trusted_proxies, via, forwarded, request_id, trace, forwarded_fields,
            head_bytes_max, fields_max, body_bytes_max, requests_max, monitor_path, error_pages,
            redirect_to_https, hsts,
        }
        HttpsRedirect { status, port }
        ForwardedFields { drop, keep }
        Network { address, prefix_bits }
        Route {
            host, prefix, methods, access_log, strip_prefix, request_headers, response_headers,
            body_bytes_max, abort_on_close, timeouts, action,
        }
        FixedResponse { status, headers, body }
        HeaderEdits { remove, set, add }
        ErrorPage { status, content_type, body }
        Upstream {
            name, algorithm, backends, health_check, passive, when_all_down, timeouts, tries_max,
            abort_on_close, error_pages, idle_connection_timeout, idle_connections_max, keepalive,
            retry_budget_min_per_s, retry_budget_percent, send_proxy, sticky, tls,
        }
        Backend { identity, address, weight, connections_max }
        Material { listeners, upstreams, authorities }
        ListenerMaterial { certificates, client_auths, ticket_keys, expires_unix_s }
        Certificate { identity, names, client_auth }
        Identity { chain, key }
        ClientAuth { is_required, authorities, revoked }
        UpstreamMaterial { authorities, identity }
        TicketKey { name, secret }
        HealthCheck { interval, timeout, thresholds, fast_interval, down_interval, initial, kind }
        Thresholds { rise, fall }
        Passive { policy, eject_percent_max, count_5xx }
        EjectPolicy { failures, eject, eject_max }
        StickyCookie {
            name, domain, max_age, same_site, secure, cache_private, secret, wait,
        }
    }
    {
        AdminSocket { 0 = Auto, 1 = Off, 2 = At(path) }
        AdminRead { 0 = Auto, 1 = Open, 2 = Token }
        StatePlace { 0 = Auto, 1 = Memory, 2 = At(path) }
        LogFormat { 0 = Common, 1 = Combined, 2 = Json, 3 = Own(text) }
        SyslogFormat { 0 = Rfc5424, 1 = Local }
        Address { 0 = Ip(ip), 1 = Unix(path) }
        BackendAddress { 0 = Fixed(address), 1 = Name { host, port } }
        CertificateFiles { 0 = Pair(files), 1 = Directory(path) }
        TlsVersion { 0 = V12, 1 = V13 }
        Mode { 0 = Tcp { upstream }, 1 = Http(http), 2 = Tls { routes } }
        HostPattern { 0 = Any, 1 = Exact(host), 2 = Suffix(suffix) }
        Action { 0 = Proxy(upstream), 1 = Respond(response), 2 = Redirect { status, location } }
        AlgorithmSettings { 0 = RoundRobin, 1 = LeastConn, 2 = RandomTwo, 3 = Hash(key) }
        HashKey { 0 = ClientIp { ipv6_prefix_bits }, 1 = Header(name), 2 = Cookie(name), 3 = Uri }
        InitialState { 0 = Up, 1 = Down }
        ProbeKind { 0 = Tcp, 1 = Http { path, host, statuses } }
        WhenAllDown { 0 = Refuse, 1 = UseAll }
        ProxyVersion { 1 = V1, 2 = V2 }
        Sticky { 0 = Insert(cookie), 1 = HashCookie(name) }
    }
}
