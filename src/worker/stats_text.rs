//! The words of the statistics line, for one worker and for the sums of several.

use std::fmt::{Display, Write as _};

use crate::board::{BackendCell, ListenerCell};
use crate::config::model::Config;
use crate::core::handshake::Handshake;
use crate::core::http::oddity::Oddity;
use crate::tls::x509::validity;

pub use crate::worker::span::span;

/// Adds what is counted of a listener.
pub fn listener(line: &mut String, name: &str, is_http: bool, get: impl Fn(ListenerCell) -> u64) {
    let _ = write!(
        line,
        "; {name}: accepted {}, active {}, bytes in {}, out {}, refused {}, reset {}, \
         timed out {}, cut {}",
        get(ListenerCell::Accepted),
        get(ListenerCell::Active),
        get(ListenerCell::BytesIn),
        get(ListenerCell::BytesOut),
        get(ListenerCell::Refused),
        get(ListenerCell::Reset),
        get(ListenerCell::TimedOut),
        get(ListenerCell::Cut),
    );
    if is_http {
        let _ = write!(line, ", requests {}", get(ListenerCell::Requests));
    }
}

/// Adds how the handshakes of a listener have ended. Where it decrypts nothing itself, none is done
/// with it.
pub fn handshakes(line: &mut String, terminates: bool, get: impl Fn(Handshake) -> u64) {
    if terminates {
        let (full, resumed) = (get(Handshake::Full), get(Handshake::Resumed));
        let _ = write!(line, ", handshakes {full}, resumed {resumed}");
    }
    let counted = Handshake::failures().map(|each| (each, get(each)));
    let counted: Vec<_> = counted.filter(|(_, count)| *count > 0).collect();
    let all: u64 = counted.iter().map(|(_, count)| count).sum();
    let _ = write!(line, ", handshakes failed {all}");
    let mut separator = " (";
    for (each, count) in &counted {
        let _ = write!(line, "{separator}{} {count}", each.words());
        separator = ", ";
    }
    if !counted.is_empty() {
        line.push(')');
    }
}

/// Adds what is counted of a backend, whether it is up and how long it leaves idle connections
/// open, where that is known.
pub fn backend(
    line: &mut String,
    label: &str,
    is_up: Option<bool>,
    get: impl Fn(BackendCell) -> u64,
) {
    let _ = write!(
        line,
        "; {label}{}: picks {}, active {}, bytes out {}, in {}, connect failures {}, \
         answer failures {}, retries {}",
        match is_up {
            Some(true) => " up",
            Some(false) => " down",
            None => "",
        },
        get(BackendCell::Picks),
        get(BackendCell::Active),
        get(BackendCell::BytesOut),
        get(BackendCell::BytesIn),
        get(BackendCell::ConnectFailures),
        get(BackendCell::AnswerFailures),
        get(BackendCell::Retries),
    );
    let idle_limit_ms = get(BackendCell::IdleLimit);
    if idle_limit_ms > 0 {
        let _ = write!(line, ", idle limit {}", span(idle_limit_ms));
    }
}

/// Adds for how many days the certificates of listeners are valid still, of each the first that
/// expires, and those that are shown to backends.
pub fn certificates(
    line: &mut String,
    expiries_unix_s: impl Iterator<Item = (impl Display, i64)>,
    now_unix_s: u64,
) {
    const SECONDS_PER_DAY: i64 = 24 * 60 * 60;
    let now_s = i64::try_from(now_unix_s).unwrap_or(i64::MAX);
    let mut separator = "; certificate days left: ";
    for (name, expiry_s) in expiries_unix_s {
        let days = expiry_s.saturating_sub(now_s).div_euclid(SECONDS_PER_DAY);
        let _ = write!(line, "{separator}{name} {days}");
        separator = ", ";
    }
}

/// When the first certificate of each listener that has one expires, in seconds since 1970, and
/// what each upstream shows to its backends.
pub fn expiries(config: &Config) -> impl Iterator<Item = (String, i64)> {
    let listeners = config.listeners.iter().zip(&config.material.listeners);
    let listeners = listeners.filter_map(|(listener, material)| {
        let expiry_s = material.as_ref()?.expires_unix_s?;
        Some((listener.name.clone(), expiry_s))
    });
    let upstreams = config.upstreams.iter().zip(&config.material.upstreams);
    listeners.chain(upstreams.filter_map(|(upstream, material)| {
        let identity = material.as_ref()?.identity.as_ref()?;
        let (_, expiry_s) = validity(identity.chain.first()?)?;
        Some((format!("upstream {}", upstream.name), expiry_s))
    }))
}

/// Adds how many responses were odd and taken all the same, of each kind that was seen.
pub fn oddities(line: &mut String, get: impl Fn(Oddity) -> u64) {
    let mut separator = "; odd responses: ";
    for kind in Oddity::ALL {
        let count = get(kind);
        if count > 0 {
            let _ = write!(line, "{separator}{kind} {count}");
            separator = ", ";
        }
    }
}

/// Adds how many access log lines were lost, if any were.
pub fn access_log(line: &mut String, lines_lost: u64) {
    if lines_lost > 0 {
        let _ = write!(line, "; access log: lines lost {lines_lost}");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::compile;
    use crate::tls::material::{Identity, ListenerMaterial, Material, Secret, UpstreamMaterial};

    #[test]
    fn an_idle_limit_is_said_once_it_is_known() {
        let said = |idle_limit_ms| {
            let mut line = String::new();
            let get = |cell| match cell == BackendCell::IdleLimit {
                true => idle_limit_ms,
                false => 0,
            };
            backend(&mut line, "app/one", Some(true), get);
            line
        };
        assert!(said(0).ends_with(", retries 0"), "{}", said(0));
        assert!(said(2_000).ends_with(", retries 0, idle limit 2.0s"));
    }

    #[test]
    fn handshakes_that_failed_are_told_by_reason() {
        let said = |terminates, counts: &[(Handshake, u64)]| {
            let mut line = String::new();
            handshakes(&mut line, terminates, |asked| {
                let count = counts.iter().find(|(known, _)| *known == asked);
                count.map_or(0, |(_, count)| *count)
            });
            line
        };
        assert_eq!(
            said(true, &[]),
            ", handshakes 0, resumed 0, handshakes failed 0"
        );
        assert_eq!(
            said(
                true,
                &[
                    (Handshake::Full, 7),
                    (Handshake::Resumed, 2),
                    (Handshake::NotTls, 1),
                    (Handshake::TooSlow, 3)
                ]
            ),
            ", handshakes 7, resumed 2, handshakes failed 4 (not TLS 1, too slow 3)"
        );
        assert_eq!(said(false, &[]), ", handshakes failed 0");
    }

    #[test]
    fn days_that_are_left_of_certificates_are_said_where_there_are_any() {
        let said = |expiries: &[(&str, i64)]| {
            let mut line = String::new();
            certificates(&mut line, expiries.iter().copied(), 86_400);
            line
        };
        assert_eq!(said(&[]), "");
        assert_eq!(
            said(&[("web", 4 * 86_400 - 1), ("old", 86_399)]),
            "; certificate days left: web 2, old -1"
        );
    }

    #[test]
    fn certificates_of_listeners_and_those_shown_to_backends_expire() {
        let text = "{listeners: [{listen: ':1', upstream: a}, {listen: ':2', upstream: b}], \
                    upstreams: {a: {backends: [a:1]}, b: {backends: [b:1]}}}";
        let compiled = compile("f", text, &mut |_| Ok(Vec::new())).expect("it is good");
        let mut config = compiled.config;
        let listener = ListenerMaterial {
            expires_unix_s: Some(7),
            ..ListenerMaterial::default()
        };
        // As much of a certificate as is looked at: number, algorithm, issuer and validity.
        let validity = b"\x30\x1e\x17\x0d700101000000Z\x17\x0d700103000000Z";
        let before = b"\x30\x29\x30\x27\x02\x01\x01\x30\x00\x30\x00";
        let upstream = |chain| UpstreamMaterial {
            authorities: 0,
            identity: Some(Identity {
                chain,
                key: Secret::new(Vec::new()),
            }),
        };
        config.material = Arc::new(Material {
            listeners: vec![Some(listener), None],
            upstreams: vec![None, Some(upstream(vec![[&before[..], validity].concat()]))],
            authorities: Vec::new(),
        });
        let found: Vec<_> = expiries(&config).collect();
        let [(front, 7), (backend, 172_800)] = &found[..] else {
            panic!("{found:?}");
        };
        assert_eq!(*front, config.listeners[0].name);
        assert_eq!(backend, "upstream b");
    }

    #[test]
    fn only_oddities_that_were_seen_are_in_the_line() {
        let line = |get: fn(Oddity) -> u64| {
            let mut line = String::new();
            oddities(&mut line, get);
            line
        };
        assert_eq!(line(|_| 0), "");
        assert_eq!(
            line(|kind| {
                let seen = [(Oddity::SpaceBeforeColon, 3), (Oddity::PaddedChunkSize, 17)];
                let count = seen.iter().find(|(known, _)| *known == kind);
                count.map_or(0, |(_, count)| *count)
            }),
            "; odd responses: blank before a colon 3, padded chunk size 17"
        );
    }
}
