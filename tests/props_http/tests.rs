//! Properties of the HTTP policy files over drawn inputs.

#[allow(dead_code, reason = "shared with the fuzz targets, which use more")]
#[path = "../fuzz/checks.rs"]
mod checks;
#[path = "../sim/net.rs"]
mod net;
#[allow(dead_code, reason = "shared with the fuzz targets, which use more")]
#[path = "../fuzz/exchange.rs"]
mod played;
#[allow(dead_code, reason = "shared with the simulations, which use more")]
#[path = "../sim/rig.rs"]
mod rig;
mod upstream_request;

use proptest::prelude::*;

/// So many cases, without files that remember failures.
fn cases(count: u32) -> proptest::test_runner::Config {
    proptest::test_runner::Config {
        cases: count,
        failure_persistence: None,
        ..Default::default()
    }
}

mod path {
    use super::cases;
    use super::*;
    use weir::core::http::path::canonical;

    /// Paths made of the pieces that matter, far more often than chance would.
    fn target() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop::sample::select(vec![
            "/", "/", "//", ".", "..", "%2e", "%2E", "%2f", "%5C", "%61", "%c3", "%25", ";", "a",
            "b", "|", "%20", "\u{e9}", "\u{ff0e}", "?", "%0", "%00", "\\", " ",
        ]);
        let pieces = prop::collection::vec(piece, 0..16).prop_map(|all| all.concat().into_bytes());
        prop_oneof![
            8 => pieces.prop_map(|mut rest| { rest.insert(0, b'/'); rest }),
            1 => prop::collection::vec(any::<u8>(), 0..32),
        ]
    }

    /// The query as it goes on.
    fn escaped(query: &[u8]) -> Vec<u8> {
        let escape = |&byte: &u8| match byte {
            0x80.. => format!("%{byte:02X}").into_bytes(),
            _ => vec![byte],
        };
        query.iter().flat_map(escape).collect()
    }

    proptest! {
        #![proptest_config(cases(4096))]

        #[test]
        fn a_canonical_path_is_rooted_and_settled(target in target()) {
            let mut space = Vec::new();
            if let Ok(found) = canonical(&target, &mut space) {
                prop_assert_eq!(found.path[0], b'/');
                let mut segments: Vec<&[u8]> = found.path[1..].split(|&b| b == b'/').collect();
                prop_assert!(segments.iter().all(|s| *s != b"." && *s != b".."));
                segments.pop();
                prop_assert!(segments.iter().all(|s| !s.is_empty()), "no run of slashes");
                prop_assert!(found.path.iter().all(|b| (0x21..0x7f).contains(b)));
                let query = target.iter().position(|&b| b == b'?').map(|at| &target[at + 1..]);
                prop_assert_eq!(found.query.map(<[u8]>::to_vec), query.map(escaped));
            }
        }

        #[test]
        fn a_canonical_path_is_its_own_canonical_path(target in target()) {
            let (mut space, mut unused) = (Vec::new(), Vec::new());
            if let Ok(found) = canonical(&target, &mut space) {
                let again = canonical(found.path, &mut unused).unwrap();
                prop_assert_eq!(again.path, found.path);
                prop_assert_eq!(again.path.as_ptr(), found.path.as_ptr(), "and is borrowed");
            }
        }
    }
}

mod route {
    use super::cases;
    use super::*;
    use weir::core::http::route::{Found, HostPattern, RouteTable, Rule, is_prefix, strip_prefix};

    fn host() -> impl Strategy<Value = String> {
        let label = prop::sample::select(vec!["a", "b", "A"]);
        prop::collection::vec(label, 1..4).prop_map(|labels| labels.join("."))
    }

    fn path() -> impl Strategy<Value = String> {
        // A slash is neither the lowest nor the highest of the bytes of a path.
        let segment = prop::sample::select(vec!["x", "y", "xy", "x-", "-", "x.y"]);
        (prop::collection::vec(segment, 0..4), any::<bool>()).prop_map(|(segments, slash)| {
            let end = if slash && !segments.is_empty() {
                "/"
            } else {
                ""
            };
            format!("/{}{end}", segments.join("/"))
        })
    }

    fn rule() -> impl Strategy<Value = Rule> {
        let pattern = prop_oneof![
            Just(HostPattern::Any),
            host().prop_map(HostPattern::Exact),
            host().prop_map(|host| HostPattern::Suffix(format!(".{host}"))),
        ];
        let methods = prop::sample::subsequence(vec!["GET".to_owned(), "PUT".to_owned()], 0..2);
        (pattern, path(), methods).prop_map(|(host, prefix, methods)| Rule {
            host,
            prefix,
            methods,
        })
    }

    /// How specific a rule is for a request, were it the only one; none when it does not match.
    fn rank(rule: &Rule, host: &str, path: &str) -> Option<(usize, usize)> {
        let host = host.to_lowercase();
        let of_host = match &rule.host {
            HostPattern::Any => 0,
            HostPattern::Suffix(end) if host.ends_with(&end.to_lowercase()) => end.len(),
            HostPattern::Exact(name) if host == name.to_lowercase() => usize::MAX,
            HostPattern::Exact(_) | HostPattern::Suffix(_) => return None,
        };
        is_prefix(rule.prefix.as_bytes(), path.as_bytes()).then_some((of_host, rule.prefix.len()))
    }

    proptest! {
        #![proptest_config(cases(2048))]

        #[test]
        fn the_table_agrees_with_looking_at_every_rule(
            rules in prop::collection::vec(rule(), 0..40), host in host(), path in path(),
        ) {
            let table = RouteTable::new(&rules).unwrap();
            let ranked: Vec<_> = (0..rules.len())
                .filter_map(|at| Some((rank(&rules[at], &host, &path)?, at)))
                .collect();
            let best = ranked.iter()
                .filter(|(_, at)| rules[*at].methods.is_empty() || rules[*at].methods[0] == "GET")
                .max_by_key(|(rank, at)| (*rank, std::cmp::Reverse(*at)));
            let expected = match best {
                Some((_, at)) => Found::Route(*at),
                None if ranked.is_empty() => Found::NotFound,
                None => Found::MethodNotAllowed,
            };
            prop_assert_eq!(table.find(host.as_bytes(), path.as_bytes(), b"GET"), expected);
            let mut allow = Vec::new();
            table.write_allow(host.as_bytes(), path.as_bytes(), &mut allow);
            if expected == Found::MethodNotAllowed {
                prop_assert_eq!(allow, b"PUT");
            }
        }

        #[test]
        fn what_is_left_of_a_path_is_a_path(path in path(), prefix in path()) {
            let left = strip_prefix(path.as_bytes(), prefix.as_bytes());
            prop_assert_eq!(left[0], b'/');
            prop_assert!(path.as_bytes().ends_with(left) || left == b"/");
        }
    }
}

mod sticky {
    use super::cases;
    use super::*;
    use weir::core::http::sticky::{Stripped, Tag, cookie_value, strip_cookie};

    fn field() -> impl Strategy<Value = Vec<u8>> {
        let piece =
            prop::sample::select(vec!["w", "=", ";", "; ", " ", "a", "\"", "w=1", "\u{e9}"]);
        prop::collection::vec(piece, 0..12).prop_map(|all| all.concat().trim().as_bytes().to_vec())
    }

    fn others(field: &[u8]) -> Vec<&[u8]> {
        field
            .split(|&byte| byte == b';')
            .filter(|pair| cookie_value([*pair], "w").is_none())
            .collect()
    }

    proptest! {
        #![proptest_config(cases(4096))]

        #[test]
        fn a_stripped_field_holds_every_cookie_but_ours(field in field()) {
            let mut out = Vec::new();
            let ours = cookie_value([field.as_slice()], "w").is_some();
            let left = match strip_cookie(&field, "w", &mut out) {
                Stripped::Unchanged => { prop_assert!(!ours); field.clone() }
                Stripped::Rewritten => { prop_assert!(ours); out }
                Stripped::Empty => {
                    prop_assert!(ours && out.is_empty());
                    let blank = others(&field).iter().all(|pair| pair.trim_ascii().is_empty());
                    prop_assert!(blank, "nothing of another cookie is lost");
                    return Ok(());
                }
            };
            prop_assert_eq!(cookie_value([left.as_slice()], "w"), None);
            let (before, after) = (others(&field), others(&left));
            prop_assert_eq!(before[0].trim_ascii_start(), after[0].trim_ascii_start());
            prop_assert_eq!(&before[1..], &after[1..], "the rest to the byte");
        }

        #[test]
        fn a_tag_is_read_only_in_its_own_form(value in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Some(tag) = Tag::parse(&value) {
                prop_assert_eq!(tag.as_bytes(), value.as_slice());
            }
        }
    }
}

mod access_log {
    use super::cases;
    use super::*;
    use weir::core::access_log::form::Form;
    use weir::core::access_log::{Record, RequestRecord, StickyUse, Timings, TlsRecord, Why};
    use weir::core::request_id::{OwnId, RequestId};

    /// Reads one JSON string at the start of `text`, strictly, and gives what follows it.
    fn string(text: &[u8]) -> Option<&[u8]> {
        let mut rest = text.strip_prefix(b"\"")?;
        loop {
            rest = match rest {
                [b'"', after @ ..] => return Some(after),
                [b'\\', b'"' | b'\\', after @ ..] => after,
                [b'\\', b'u', digits @ ..] => {
                    let (digits, after) = digits.split_at_checked(4)?;
                    digits.iter().all(u8::is_ascii_hexdigit).then_some(after)?
                }
                [b'\\' | 0..0x20 | 0x7f, ..] | [] => return None,
                [_, after @ ..] => after,
            };
        }
    }

    fn value(text: &[u8]) -> Option<&[u8]> {
        let words = [&b"null"[..], b"true", b"false"];
        if let Some(after) = words.iter().find_map(|word| text.strip_prefix(*word)) {
            return Some(after);
        }
        let is_number = |byte: &&u8| byte.is_ascii_digit() || **byte == b'.';
        let digits = text.iter().take_while(is_number).count();
        if digits > 0 {
            Some(&text[digits..])
        } else {
            string(text)
        }
    }

    /// The keys of a flat JSON object that is the whole of `text`; none when it is not one.
    fn keys(text: &[u8]) -> Option<Vec<&[u8]>> {
        std::str::from_utf8(text).ok()?;
        let mut rest = text.strip_prefix(b"{")?;
        let mut keys = Vec::new();
        loop {
            let after = string(rest)?;
            keys.push(&rest[1..rest.len() - after.len() - 1]);
            rest = match value(after.strip_prefix(b":")?)? {
                b"}" => return Some(keys),
                more => more.strip_prefix(b",")?,
            };
        }
    }

    fn nasty() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop::sample::select(vec![
            &b"\n"[..],
            b"\r",
            b"\"",
            b"\\",
            b"\0",
            b"\x1b",
            b"\x7f",
            b"\xff",
            b"\xc3",
            b"\xc3\xa9",
            b"\xe2\x80\xa8",
            b"a",
            b" ",
            b"\",\"x\":1",
            b"-- \"",
        ]);
        prop_oneof![
            prop::collection::vec(piece, 0..12).prop_map(|all| all.concat()),
            prop::collection::vec(any::<u8>(), 0..64),
        ]
    }

    const KEYS: &str = "ts id worker client client_port listener host method path protocol status \
        bytes_in bytes_out body_bytes_in body_bytes_out route upstream backend attempts \
        wait_ms queue_ms connect_ms ttfb_ms duration_ms why closed_by user_agent referer \
        sticky traceparent sni tls_version tls_cipher tls_resumed client_verify";

    /// The built-in forms: common, combined, JSON.
    fn forms() -> [Form; 3] {
        [Form::common(), Form::combined(), Form::json()]
    }

    /// One line, printable, with as many quotes as the format has fields for.
    fn check_text(line: &[u8], quotes: usize) -> Result<(), TestCaseError> {
        let (end, inner) = line.split_last().unwrap();
        prop_assert_eq!(*end, b'\n');
        prop_assert!(inner.iter().all(|byte| (b' '..0x7f).contains(byte)));
        prop_assert_eq!(inner.iter().filter(|byte| **byte == b'"').count(), quotes);
        Ok(())
    }

    fn check_json(line: &[u8], expected: &str) -> Result<(), TestCaseError> {
        let (end, inner) = line.split_last().unwrap();
        prop_assert_eq!(*end, b'\n');
        prop_assert!(!inner.contains(&b'\n'));
        let expected: Vec<_> = expected.split(' ').map(str::as_bytes).collect();
        prop_assert_eq!(
            keys(inner),
            Some(expected),
            "{}",
            String::from_utf8_lossy(inner)
        );
        Ok(())
    }

    proptest! {
        #![proptest_config(cases(2048))]

        #[test]
        fn no_value_leaves_its_place_in_a_request_line(
            values in prop::collection::vec(nasty(), 5),
            name in any::<String>(),
            unix_ms in any::<u64>(),
            number in any::<u64>(),
            is_known in any::<bool>(),
        ) {
            let name = is_known.then_some(name.as_str());
            let fields = [is_known.then(|| values[3].clone()), Some(values[4].clone())];
            let record = Record {
                unix_ms,
                id: RequestId::Own(OwnId { start: number, number }),
                worker: 1,
                client: is_known.then_some([192, 0, 2, 1].into()),
                client_port: None,
                listener: name.unwrap_or("l"),
                request: Some(RequestRecord {
                    host: &values[0],
                    method: &values[1],
                    path: &values[2],
                    protocol: "HTTP/1.1",
                    status: is_known.then_some(200),
                    route: name,
                    sticky: is_known.then_some(StickyUse::Hit),
                    traceparent: is_known.then_some(&values[0]),
                    request_fields: &fields,
                    response_fields: &[],
                }),
                head_bytes_in: number >> 1,
                body_bytes_in: number >> 1,
                head_bytes_out: 0,
                body_bytes_out: number,
                upstream: name,
                backend: name,
                attempts: 1,
                timings: Timings { ttfb_us: is_known.then_some(number), ..Timings::default() },
                why: Why::Refused,
                reason: is_known.then_some("no Host"),
                closed_by: None,
                sni: is_known.then_some(name).flatten(),
                tls: is_known.then_some(TlsRecord {
                    sni: name,
                    version: "TLSv1.3",
                    cipher: "TLS_AES_128_GCM_SHA256",
                    is_resumed: true,
                    is_verified: Some(false),
                }),
            };
            let mut lines = forms().map(|form| {
                let mut out = b"before".to_vec();
                record.write(&form, &mut out);
                out
            });
            for line in &mut lines {
                prop_assert_eq!(&line[..6], b"before", "appended");
                line.drain(..6);
            }
            check_text(&lines[0], 2)?;
            check_text(&lines[1], if is_known { 8 } else { 6 })?;
            check_json(&lines[2], KEYS)?;
        }

        #[test]
        fn no_name_leaves_its_place_in_a_session_line(name in any::<String>()) {
            let record = Record {
                unix_ms: 0,
                id: RequestId::Own(OwnId { start: 0, number: 0 }),
                worker: 0,
                client: None,
                client_port: None,
                listener: &name,
                request: None,
                head_bytes_in: 0,
                body_bytes_in: 0,
                head_bytes_out: 0,
                body_bytes_out: 0,
                upstream: Some(&name),
                backend: Some(&name),
                attempts: 0,
                timings: Timings::default(),
                why: Why::Ok,
                reason: None,
                closed_by: None,
                sni: Some(&name),
                tls: None,
            };
            let lines = forms().map(|form| {
                let mut out = Vec::new();
                record.write(&form, &mut out);
                out
            });
            check_text(&lines[0], 2)?;
            check_text(&lines[1], 6)?;
            check_json(&lines[2], KEYS)?;
        }
    }
}

mod forwarded {
    use super::cases;
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};
    use weir::core::http::forwarded::{Network, Peer, client_address, write_x_forwarded_for};

    fn address() -> impl Strategy<Value = IpAddr> {
        (prop::sample::select(vec![10, 192]), 0..4u8)
            .prop_map(|(first, last)| IpAddr::V4(Ipv4Addr::new(first, 0, 0, last)))
    }

    proptest! {
        #![proptest_config(cases(2048))]

        #[test]
        fn a_claim_left_of_a_stranger_changes_nothing(
            claims in prop::collection::vec(nasty_line(), 0..3),
            hops in prop::collection::vec(address(), 0..4),
            peer in address(),
        ) {
            let trusted = [Network::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 0)), 8)];
            let peer = Peer::new(Some(peer), &trusted);
            let stranger = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));
            // What the proxies between the stranger and the peer have written.
            let mut honest = vec![stranger.to_string()];
            honest.extend(hops.iter().map(ToString::to_string));
            let claimed: Vec<_> = claims.iter().chain(&honest).map(String::as_bytes).collect();
            let honest: Vec<_> = honest.iter().map(String::as_bytes).collect();
            prop_assert_eq!(
                client_address(peer, &trusted, claimed),
                client_address(peer, &trusted, honest)
            );
        }

        #[test]
        fn the_next_weir_that_trusts_this_one_finds_the_same_client(
            lines in prop::collection::vec(nasty_line(), 0..3), peer in address(),
        ) {
            let trusted = [Network::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 0)), 8)];
            let lines: Vec<_> = lines.iter().map(String::as_bytes).collect();
            let first = Peer::new(Some(peer), &trusted);
            let mut sent = Vec::new();
            write_x_forwarded_for(first, lines.iter().copied(), &mut sent);
            let second = Peer::new(Some(IpAddr::V4(Ipv4Addr::new(10, 9, 9, 9))), &trusted);
            prop_assert_eq!(
                client_address(second, &trusted, [sent.as_slice()]),
                client_address(first, &trusted, lines)
            );
        }
    }

    fn nasty_line() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "10.0.0.1",
            "192.0.2.1",
            "::1",
            "[::1]:80",
            ",",
            ", ",
            " ",
            "unknown",
            "x",
            "\u{e9}",
        ]);
        prop::collection::vec(piece, 0..8).prop_map(|all| all.concat())
    }
}

mod budget {
    use super::*;
    use weir::core::http::budget::{RetryBudget, WINDOW_S};
    use weir::core::time::Tick;

    proptest! {
        #![proptest_config(cases(1024))]

        /// Against a list of everything that ever happened.
        #[test]
        fn the_budget_agrees_with_a_full_record(
            steps in prop::collection::vec((0..3000u64, 0..20usize, 0..10usize), 0..40),
            percent in 0..150u32,
            min_per_s in 0..5u32,
        ) {
            let mut budget = RetryBudget::new(percent, min_per_s);
            let (mut now_ms, mut requests, mut retries) = (0, Vec::new(), Vec::new());
            for (pause_ms, asked, wanted) in steps {
                now_ms += pause_ms;
                let second = now_ms / 1000;
                for _ in 0..asked {
                    budget.on_request(Tick(now_ms));
                    requests.push(second);
                }
                for _ in 0..wanted {
                    let recent = |all: &[u64]| {
                        all.iter().filter(|&&at| at + WINDOW_S > second).count() as u64
                    };
                    let now = retries.iter().filter(|&&at| at == second).count() as u64;
                    let share = recent(&requests) * u64::from(percent) / 100;
                    let expected = now < u64::from(min_per_s) || recent(&retries) < share;
                    prop_assert_eq!(budget.try_retry(Tick(now_ms)), expected);
                    if expected {
                        retries.push(second);
                    }
                }
            }
        }
    }
}

/// What two peers say, played to the real worker.
mod exchange {
    use super::cases;
    use super::*;
    use crate::played::{Ended, Message, Played, Script, check, play, requests, responses};
    use proptest::collection::vec;
    use proptest::sample::select;

    const ASKED: &[&str] = &[
        "GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /b HTTP/1.0\r\n\r\n",
        "HEAD /c HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "POST /e HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "POST /f HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "PUT /g HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
        "POST /h HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\n",
        "GET /i HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nGET",
        "POST /j HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST /k HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n",
        "5\r\nGET /\r\n",
        "0\r\n\r\n",
        "0\r\nX-A: b\r\n\r\n",
        "\r\n",
        "x",
    ];

    const ANSWERED: &[&str] = &[
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-A: b\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        "HTTP/1.0 200 OK\r\n\r\nto the end",
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nlast",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
        "HTTP/1.1 500 No\r\nContent-Length: 40\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "x",
    ];

    fn stream(pieces: &'static [&'static str]) -> impl Strategy<Value = String> {
        vec(select(pieces), 0..5).prop_map(|all| all.concat())
    }

    /// A whole request, and whether its method is HEAD and its client old.
    fn request() -> impl Strategy<Value = &'static str> {
        select(&ASKED[..7])
    }

    /// What a client received, apart from how the pieces of a body are framed.
    fn meaning(played: &Played, client: &[u8]) -> (Vec<Vec<u8>>, Vec<Message>, Ended) {
        let asked = requests(&played.forwarded.concat()).expect("good requests");
        let (found, is_all) = responses(&played.returned, &asked);
        assert!(is_all, "{:?} to {client:?}", played.returned);
        (played.forwarded.clone(), found, played.ended)
    }

    proptest! {
        #![proptest_config(cases(500))]

        #[test]
        fn whatever_is_said_both_directions_are_read_in_one_way(
            client in stream(ASKED), backend in stream(ANSWERED), split in any::<u8>(),
            alternates in any::<bool>(), client_ends in any::<bool>(),
            backend_ends in any::<bool>(),
        ) {
            check(Script {
                client: client.as_bytes(),
                backend: backend.as_bytes(),
                split,
                alternates,
                client_ends,
                backend_ends,
            });
        }

        #[test]
        fn any_split_gives_the_same_messages_and_the_same_end(
            client in request(), interim in vec(select(&ANSWERED[5..7]), 0..3),
            answer in prop_oneof![select(&ANSWERED[..5]), select(&ANSWERED[8..13])],
            split in 1..=u8::MAX, cut in any::<prop::sample::Index>(), is_cut in any::<bool>(),
        ) {
            let mut backend = interim.concat() + answer;
            if is_cut {
                backend.truncate(cut.index(backend.len() + 1));
            }
            let script = Script {
                client: client.as_bytes(),
                backend: backend.as_bytes(),
                split: 0,
                alternates: false,
                client_ends: false,
                backend_ends: true,
            };
            let whole = meaning(&play(script), script.client);
            let split = meaning(&play(Script { split, ..script }), script.client);
            // A reset may destroy what was under way.
            let was_reset = [whole.2, split.2] == [Ended::Reset; 2];
            prop_assert_eq!(&whole.0, &split.0);
            prop_assert_eq!(whole.2, split.2);
            prop_assert!(was_reset || whole.1 == split.1, "{:?}\n{:?}", whole.1, split.1);
        }

        #[test]
        fn a_response_that_is_cut_never_looks_whole(
            client in request(), answer in prop_oneof![select(&ANSWERED[..3]), Just(ANSWERED[9])],
            split in any::<u8>(), cut in any::<prop::sample::Index>(),
        ) {
            let backend = &answer[..cut.index(answer.len())];
            let script = Script {
                client: client.as_bytes(),
                backend: backend.as_bytes(),
                split,
                alternates: false,
                client_ends: false,
                backend_ends: true,
            };
            let played = play(script);
            let (_, found, ended) = meaning(&played, script.client);
            let last = found.last().expect("an answer");
            let has_reset = ended == Ended::Reset;
            let is_head = client.starts_with("HEAD");
            let is_own = last.status() == 502;
            // To an old client chunks go as bare data, so that only a reset shows the cut.
            let is_short = ended == Ended::Clean && !last.is_whole;
            prop_assert!(is_own || is_head || has_reset || is_short);
            let is_framing = |name: &[u8]| matches!(name, b"content-length" | b"transfer-encoding");
            let is_framed = last.fields.iter().any(|(name, _)| is_framing(name));
            prop_assert!(has_reset || is_own || is_head || is_framed);
        }

        #[test]
        fn nothing_follows_a_whole_response(
            client in request(), answer in select(&ANSWERED[..5]), surplus in stream(ANSWERED),
            split in any::<u8>(),
        ) {
            let script = Script {
                client: client.as_bytes(),
                backend: answer.as_bytes(),
                split,
                alternates: false,
                client_ends: false,
                backend_ends: false,
            };
            let alone = meaning(&play(script), script.client);
            let backend = [answer, surplus.as_str()].concat();
            let backend = backend.as_bytes();
            let more = meaning(&play(Script { backend, ..script }), script.client);
            prop_assert_eq!(alone.1, more.1);
        }
    }
}

/// The machine alone, under any order of events that a driver can bring about.
mod machine {
    use super::cases;
    use super::*;
    use proptest::collection::vec;
    use weir::core::http::body::Framing;
    use weir::core::http::budget::RetryBudget;
    use weir::core::http::exchange::{
        Allowance, BackendFate, BackendState, ClientFate, Due, End, Exchange, Recovery,
        ResponseKind,
    };
    use weir::core::http::head::{Expect, Method, RequestFacts, ResponseFacts, Version};
    use weir::core::time::Tick;

    #[derive(Clone, Debug)]
    enum Event {
        Connected { is_reused: bool },
        ConnectFails,
        Queued,
        Turn,
        Sends(usize),
        Body(usize),
        Held(bool),
        Refused,
        Head(u16, Framing),
        Bytes(usize),
        BackendEnds { has_tries: bool },
        ClientEnds { is_abort: bool },
        Timeout,
    }

    fn framing() -> impl Strategy<Value = Framing> {
        prop_oneof![
            Just(Framing::None),
            (0_u64..6).prop_map(Framing::Length),
            Just(Framing::UntilClose),
        ]
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            3 => any::<bool>().prop_map(|is_reused| Event::Connected { is_reused }),
            1 => Just(Event::ConnectFails),
            1 => Just(Event::Queued),
            1 => Just(Event::Turn),
            3 => (1_usize..30).prop_map(Event::Sends),
            2 => (1_usize..4).prop_map(Event::Body),
            1 => any::<bool>().prop_map(Event::Held),
            1 => Just(Event::Refused),
            2 => (prop::sample::select(vec![100_u16, 103, 200, 204, 500]), framing())
                .prop_map(|(status, framing)| Event::Head(status, framing)),
            2 => (1_usize..4).prop_map(Event::Bytes),
            3 => any::<bool>().prop_map(|has_tries| Event::BackendEnds { has_tries }),
            1 => any::<bool>().prop_map(|is_abort| Event::ClientEnds { is_abort }),
            1 => Just(Event::Timeout),
        ]
    }

    fn facts() -> impl Strategy<Value = RequestFacts> {
        let method = prop::sample::select(vec![Method::Get, Method::Post, Method::Put]);
        (
            method,
            0_u64..6,
            any::<bool>(),
            any::<bool>(),
            any::<bool>(),
        )
            .prop_map(
                |(method, length, keep_alive, is_old, expects)| RequestFacts {
                    method,
                    framing: Framing::Length(length),
                    keep_alive,
                    version: if is_old {
                        Version::Http10
                    } else {
                        Version::Http11
                    },
                    expect: if expects && !is_old {
                        Expect::Continue
                    } else {
                        Expect::Nothing
                    },
                    ..RequestFacts::default()
                },
            )
    }

    /// What has happened, kept beside the machine.
    #[derive(Default)]
    struct Seen {
        finals: u32,
        continues: u32,
        /// Bytes that backends have been given of the present and of earlier connections.
        given: u64,
        given_before: u64,
        streamed: u64,
    }

    /// Applies an event, and looks whether the exchange has come to its end by it.
    fn step(
        one: &mut Exchange,
        seen: &mut Seen,
        budget: &mut RetryBudget,
        event: &Event,
    ) -> Option<End> {
        let was_whole = one.is_response_whole();
        let end = apply(one, seen, budget, event);
        let is_harmed = matches!(end, Some(End::Failed(_) | End::Cut(_)));
        assert!(!was_whole || !is_harmed, "{end:?} behind a whole response");
        end.or_else(|| one.natural_end())
    }

    /// Applies an event where a driver could; the end, if that was it.
    fn apply(
        one: &mut Exchange,
        seen: &mut Seen,
        budget: &mut RetryBudget,
        event: &Event,
    ) -> Option<End> {
        let is_connected = matches!(one.backend(), BackendState::Connected { .. });
        let out = &mut Vec::new();
        match *event {
            Event::Connected { is_reused } if one.backend() == BackendState::None => {
                one.on_connected(is_reused);
                None
            }
            Event::ConnectFails if one.backend() == BackendState::None => {
                one.on_connecting(Tick(0));
                one.on_connect_failed(false);
                None
            }
            Event::Queued if one.backend() == BackendState::None => {
                one.on_queued(Tick(0));
                None
            }
            Event::Turn if matches!(one.backend(), BackendState::Queued(_)) => {
                one.on_dequeued();
                None
            }
            Event::Sends(count) if is_connected && !one.is_refused() => {
                let count = count.min(one.unsent().len());
                one.on_sent(count);
                seen.given += count as u64;
                None
            }
            Event::Body(count) if is_connected && one.unsent().is_empty() && !one.is_received() => {
                let body = &b"bodybody"[..count];
                match one.on_request_body(body, None, out) {
                    Ok(relayed) => {
                        seen.streamed += relayed.consumed as u64;
                        None
                    }
                    Err(end) => Some(end),
                }
            }
            Event::Held(is_held) if is_connected && seen.streamed > 0 && !one.is_refused() => {
                one.on_held(is_held);
                None
            }
            Event::Refused if is_connected => {
                one.on_refused();
                None
            }
            Event::Head(status, framing) if is_connected && !one.has_response() => {
                let framing = if status < 200 || status == 204 {
                    Framing::None
                } else {
                    framing
                };
                let head = ResponseFacts {
                    status,
                    framing,
                    reusable: true,
                    ..ResponseFacts::default()
                };
                match one.on_head(&head, std::iter::empty(), true) {
                    Ok(ResponseKind::Final { .. }) => seen.finals += 1,
                    Ok(ResponseKind::Interim | ResponseKind::Dropped) => {}
                    Err(end) => return Some(end),
                }
                None
            }
            Event::Bytes(count) if is_connected && one.has_response() => {
                one.on_response_body(&b"response"[..count], out).err()
            }
            Event::BackendEnds { .. } if is_connected && one.has_response() => {
                one.on_response_closed().err()
            }
            Event::ClientEnds { is_abort } => one.on_client_closed(is_abort).break_value(),
            Event::BackendEnds { has_tries } if is_connected => {
                let method = one.facts().method;
                let found = one.on_backend_lost(Allowance {
                    has_tries,
                    budget,
                    now: Tick(0),
                });
                match found.expect("no response has begun") {
                    Recovery::SameBackend | Recovery::OtherBackend => {
                        assert_eq!(seen.streamed, 0, "what was not kept is lost");
                        seen.given_before += seen.given;
                        seen.given = 0;
                        let may_repeat = method.is_idempotent();
                        assert!(may_repeat || seen.given_before == 0, "sent twice");
                        None
                    }
                    Recovery::GiveUp | Recovery::GiveUpStale => Some(one.on_no_backend()),
                }
            }
            Event::Timeout => match one.on_timeout(Tick(u64::MAX), false) {
                Due::Continue => {
                    seen.continues += 1;
                    None
                }
                Due::OtherBackend => {
                    assert_eq!(one.backend(), BackendState::None);
                    None
                }
                Due::ConnectFailed => {
                    one.on_connect_failed(true);
                    Some(one.on_no_backend())
                }
                Due::End(end) => Some(end),
            },
            Event::Connected { .. }
            | Event::ConnectFails
            | Event::Queued
            | Event::Turn
            | Event::Sends(_)
            | Event::Body(_)
            | Event::Held(_)
            | Event::Refused
            | Event::Head(..)
            | Event::Bytes(_)
            | Event::BackendEnds { .. } => None,
        }
    }

    proptest! {
        #![proptest_config(cases(4096))]

        #[test]
        fn one_response_and_no_harmful_repetition(
            facts in facts(), came in 0_usize..6, retries in 0_u32..3,
            events in vec(event(), 0..24),
        ) {
            let mut one = Exchange::new(facts);
            one.head_space().extend_from_slice(b"GET / HTTP/1.1\r\n\r\n");
            let taken = one.on_request(&b"hello!"[..came], Tick(0)).expect("a good body");
            prop_assert!(taken <= came);
            let mut seen = Seen::default();
            let mut budget = RetryBudget::new(0, retries);
            let mut events = events.iter();
            let end = events.find_map(|event| step(&mut one, &mut seen, &mut budget, event));
            prop_assert!(seen.finals <= 1 && seen.continues <= 1);
            prop_assert_eq!(seen.finals == 1, one.has_response());
            let ending = one.end(end.unwrap_or(End::ClientGone), true);
            // A response of weir's own is the only one.
            prop_assert!(ending.answer.is_none() || seen.finals == 0);
            if ending.client == ClientFate::Next {
                prop_assert!(one.is_received() && facts.keep_alive);
            }
            // Neither direction ends the other.
            let is_over = one.is_sent() || one.is_refused();
            let is_dropping = one.drops_request();
            match end {
                Some(End::Answered(..)) => prop_assert!(one.is_response_whole() && !is_over),
                Some(End::Complete) => {
                    let is_unasked = facts.expect == Expect::Continue && seen.continues == 0;
                    prop_assert!(one.is_response_whole() && (is_over || is_unasked));
                }
                None => prop_assert!(!one.is_response_whole() || !is_over || is_dropping),
                Some(_) => {}
            }
            if ending.backend == BackendFate::Park {
                prop_assert!(end == Some(End::Complete) && one.is_sent());
            }
        }
    }
}
