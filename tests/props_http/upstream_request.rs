//! The whole head of a request to a backend: whatever the client sent and the rules say, it has one
//! meaning, and nothing in it comes from nowhere.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use std::net::IpAddr;
use weir::core::http::claims::Claims;
use weir::core::http::forwarded::{Network, Peer, Scheme};
use weir::core::http::head::{HeadLimits, Parsed, RequestHead};
use weir::core::http::path::{Canonical, canonical};
use weir::core::http::rewrite::FieldEdits;
use weir::core::http::sticky::cookie_value;
use weir::core::http::upstream_request::{ClientCertificate, RequestSource, UpstreamRequest};

use crate::cases;
use crate::checks::{Line, Reading};

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 8192,
    fields_max: 64,
};

/// Request lines, with the Host that they need.
const STARTS: &[&str] = &[
    "GET /a/b?x=1 HTTP/1.1\r\nHost: h.example",
    "POST /%61/../c HTTP/1.1\r\nhost:  h.example:8080 ",
    "PUT http://other.example/p HTTP/1.1\r\nHost: h.example",
    "GET http://other.example?q HTTP/1.1\r\nHost: h.example",
    "OPTIONS * HTTP/1.1\r\nHost: h.example",
    "OPTIONS /o HTTP/1.1\r\nHost: h.example",
    "GET /old HTTP/1.0",
    "POST /old HTTP/1.0\r\nHost: h.example",
];

const FRAMINGS: &[&str] = &[
    "",
    "",
    "Content-Length: 5\r\n",
    "Content-Length: 005\r\n",
    "content-length:5, 5\r\nContent-Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "transfer-encoding:,Chunked\r\n",
];

const FIELDS: &[&str] = &[
    "Accept: */*",
    "Authorization: Basic eA==",
    "Range: bytes=0-1",
    "X-A: 1",
    "x-a:2",
    "X-A:\t 3 ",
    "X-B:",
    "X-Own: 1",
    "x_own: 2",
    "Expect: 100-continue",
    "Max-Forwards: 3",
    "Cookie: w=1; a=b",
    "cookie: w=1",
    "Cookie: a=c;w=2;d",
    "Connection: keep-alive",
    "Connection: close, X-A",
    "connection:x-b , TE,upgrade",
    "Connection: cookie, via, forwarded, host, content-length, transfer-encoding",
    "Connection: x-forwarded-for, x-forwarded-prefix",
    "Keep-Alive: timeout=5",
    "Proxy-Connection: keep-alive",
    "HTTP2-Settings: AAMAAABk",
    "TE: trailers, gzip",
    "Upgrade: websocket",
    "Content_Length: 7",
    "Proxy: http://a",
    "Via: 1.0 before",
    "Forwarded: for=192.0.2.7",
    "X-Forwarded-For: 192.0.2.7, 198.51.100.8",
    "X-Forwarded-Host: said.example:444",
    "X-Forwarded-Port: 8443",
    "X-Forwarded-Prefix: /p",
    "X-Forwarded-Proto: https",
    "X_Forwarded_For: 192.0.2.9",
    "X-Real-IP: 192.0.2.7",
];

/// One edit of a route.
#[derive(Clone, Copy, Debug)]
enum Edit {
    Remove(&'static str),
    Set(&'static str, &'static str),
    Add(&'static str, &'static str),
}

const EDITS: &[Edit] = &[
    Edit::Remove("X-A"),
    Edit::Remove("Cookie"),
    Edit::Remove("X-Real-IP"),
    Edit::Remove("Via"),
    Edit::Set("x-b", "set"),
    Edit::Set("Host", "set.example"),
    Edit::Set("X-Forwarded-For", "hidden"),
    Edit::Set("X-Forwarded-Port", "1"),
    Edit::Add("X-A", "added"),
    Edit::Add("X-New", ""),
];

impl Edit {
    /// Applies it; the name that is left out and the line that is added.
    fn apply(self, edits: &mut FieldEdits) -> (Option<String>, Option<Line>) {
        let line = |name: &str, value: &str| (name.to_lowercase().into(), value.into());
        match self {
            Self::Remove(name) => {
                edits.remove(name.as_bytes()).unwrap();
                (Some(name.to_lowercase()), None)
            }
            Self::Set(name, value) => {
                edits.set(name.as_bytes(), value.as_bytes()).unwrap();
                (Some(name.to_lowercase()), Some(line(name, value)))
            }
            Self::Add(name, value) => {
                edits.add(name.as_bytes(), value.as_bytes()).unwrap();
                (None, Some(line(name, value)))
            }
        }
    }
}

/// What a listener, a route and an upstream are set to.
#[derive(Clone, Debug)]
struct Rules {
    edits: Vec<Edit>,
    is_trusted: bool,
    keeps_prefix: bool,
    drops_own: bool,
    via: Option<&'static str>,
    forwarded: bool,
    own_cookie: Option<&'static str>,
    close: bool,
    port: Option<u16>,
}

fn rules() -> impl Strategy<Value = Rules> {
    let switches = any::<[bool; 5]>();
    let edits = subsequence(EDITS, 0..=EDITS.len());
    let via = option::of(Just("weir"));
    let own_cookie = option::of(Just("w"));
    let port = option::of(Just(8080));
    (edits, switches, via, own_cookie, port).prop_map(|(edits, switches, via, own_cookie, port)| {
        let [is_trusted, keeps_prefix, drops_own, forwarded, close] = switches;
        Rules {
            edits,
            is_trusted,
            keeps_prefix,
            drops_own,
            via,
            forwarded,
            own_cookie,
            close,
            port,
        }
    })
}

fn request() -> impl Strategy<Value = String> {
    let fields = vec(select(FIELDS), 0..12);
    (select(STARTS), select(FRAMINGS), fields, any::<bool>()).prop_map(
        |(start, framing, fields, is_first)| {
            let lines: String = fields.iter().map(|line| format!("{line}\r\n")).collect();
            match is_first {
                true => format!("{start}\r\n{framing}{lines}\r\n"),
                false => format!("{start}\r\n{lines}{framing}\r\n"),
            }
        },
    )
}

/// Fields for one connection, and such as a backend could take for the framing.
const OF_THE_HOP: &[&str] = &[
    "connection",
    "content_length",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "upgrade",
];

/// Fields that `Connection` cannot take out of a request.
const PROTECTED: &[&str] = &[
    "authorization",
    "content-length",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "transfer-encoding",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-real-ip",
];

/// A message as it came, beside what the rules say.
struct Case<'a> {
    came: Reading,
    rules: Rules,
    head: &'a RequestHead,
    left_out: Vec<String>,
    added: Vec<Line>,
}

impl Case<'_> {
    /// Whether weir may write a field of this name itself.
    fn is_written(&self, name: &str) -> bool {
        match name {
            "host" | "content-length" | "transfer-encoding" | "connection" => true,
            "max-forwards" => self.head.facts.max_forwards.is_some(),
            "upgrade" => self.head.facts.upgrade,
            "te" => self.head.fields.takes_trailers(),
            "via" => self.rules.via.is_some(),
            "forwarded" => self.rules.forwarded,
            "cookie" => self.rules.own_cookie.is_some() && !self.came.all("cookie").is_empty(),
            "x-forwarded-for" | "x-forwarded-host" | "x-forwarded-port" | "x-forwarded-proto"
            | "x-real-ip" => true,
            _ => false,
        }
    }

    /// Whether a field of the client's goes on as it came.
    fn passes(&self, name: &str) -> bool {
        let is_named = self.came.all("connection").iter().any(|value| {
            let mut options = value.split(|&byte| byte == b',');
            options.any(|option| option.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
        });
        let is_believed = match name {
            "proxy" | "x_forwarded_for" => false,
            "x-forwarded-prefix" => self.rules.is_trusted || self.rules.keeps_prefix,
            "forwarded" => self.rules.is_trusted,
            // Only as it is listed, and only from a trusted proxy.
            "x_own" => !self.rules.drops_own,
            "x-own" => self.rules.is_trusted || !self.rules.drops_own,
            "expect" => !self.came.start.ends_with(b"1.0"),
            _ => true,
        };
        is_believed
            && !self.is_written(name)
            && !OF_THE_HOP.contains(&name)
            && !self.left_out.iter().any(|it| it == name)
            && (!is_named || PROTECTED.contains(&name))
    }

    fn check(&self, sent: &[u8], target: Canonical<'_>) -> Result<(), TestCaseError> {
        let found = Reading::of(sent).expect("one strict reading");
        prop_assert_eq!(found.length, sent.len());
        self.check_start(&found, target)?;
        self.check_frame(&found, sent)?;
        self.check_fields(&found)
    }

    fn check_start(&self, found: &Reading, target: Canonical<'_>) -> Result<(), TestCaseError> {
        let method = self.came.start.split(|&byte| byte == b' ').next().unwrap();
        let query = target.query.map(|query| [b"?", query].concat());
        let query = query.unwrap_or_default();
        let start = [method, b" ", target.path, &query, b" HTTP/1.1"].concat();
        prop_assert_eq!(&found.start, &start);
        Ok(())
    }

    /// Whom it is for, and where it ends.
    fn check_frame(&self, found: &Reading, sent: &[u8]) -> Result<(), TestCaseError> {
        let set = self.added.iter().find(|(name, _)| name == b"host");
        let absolute = self.came.start.windows(9).any(|part| part == b"//other.e");
        let host: &[u8] = match (set, absolute, self.came.all("host").first()) {
            (Some((_, value)), _, _) => value,
            (None, true, _) => b"other.example",
            (None, false, Some(host)) => host,
            (None, false, None) => b"pool",
        };
        prop_assert_eq!(found.all("host"), [host]);
        prop_assert_eq!(found.framing(), Ok(self.head.facts.framing));
        let mut again = RequestHead::default();
        let parsed = again.parse(sent, LIMITS);
        prop_assert_eq!(parsed, Ok(Parsed::Complete(sent.len())));
        prop_assert_eq!(again.facts.framing, self.head.facts.framing);
        prop_assert_eq!(again.facts.upgrade, self.head.facts.upgrade);
        prop_assert!(found.all("connection").len() <= 1);
        Ok(())
    }

    /// The client's fields in their order, then what weir and the rules write.
    fn check_fields(&self, found: &Reading) -> Result<(), TestCaseError> {
        let is_framing = |name: &[u8]| {
            [b"host".as_slice(), b"content-length", b"transfer-encoding"].contains(&name)
        };
        let text = |name: &[u8]| String::from_utf8(name.to_vec()).unwrap();
        let came = self.came.fields.iter();
        let passing: Vec<&Line> = came.filter(|(name, _)| self.passes(&text(name))).collect();
        let sent = found.fields.iter().filter(|(name, _)| !is_framing(name));
        let sent: Vec<&Line> = sent.collect();
        prop_assert!(sent.len() >= passing.len());
        let (first, rest) = sent.split_at(passing.len());
        prop_assert_eq!(first, &passing[..]);
        let mut added: Vec<&Line> = self.added.iter().collect();
        added.retain(|(name, _)| !is_framing(name));
        for line in rest {
            let own = added.iter().position(|it| it == line);
            match own {
                Some(at) => drop(added.remove(at)),
                None => {
                    let name = text(&line.0);
                    let is_left_out = self.left_out.contains(&name);
                    prop_assert!(
                        self.is_written(&name) && !is_left_out,
                        "{name} from nowhere"
                    );
                }
            }
        }
        prop_assert!(added.is_empty(), "{:?} of the rules are missing", added);
        let named = self.rules.own_cookie.unwrap_or("none");
        prop_assert_eq!(cookie_value(found.all("cookie"), named), None);
        if !self.rules.is_trusted && !self.left_out.iter().any(|it| it == "x-forwarded-for") {
            prop_assert_eq!(found.all("x-forwarded-for"), [b"203.0.113.5"]);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(cases(4096))]

    #[test]
    fn it_has_one_meaning_and_nothing_from_nowhere(bytes in request(), rules in rules()) {
        let mut head = RequestHead::default();
        // What is refused, as chunks in HTTP/1.0 are, goes to nobody.
        let Ok(Parsed::Complete(length)) = head.parse(bytes.as_bytes(), LIMITS) else {
            return Ok(());
        };
        prop_assert_eq!(length, bytes.len());
        let mut edits = FieldEdits::none();
        let applied: Vec<_> = rules.edits.iter().map(|edit| edit.apply(&mut edits)).collect();
        let (left_out, added): (Vec<_>, Vec<_>) = applied.into_iter().unzip();
        let mut claims = Claims::default();
        if rules.keeps_prefix {
            claims.keep(b"X-Forwarded-Prefix").unwrap();
        }
        if rules.drops_own {
            claims.drop(b"X-Own").unwrap();
        }
        let (mut completed, mut space) = (Vec::new(), Vec::new());
        let target = match head.path_and_query(bytes.as_bytes(), &mut completed) {
            b"*" => Canonical { path: b"*", query: None },
            path => canonical(path, &mut space).unwrap(),
        };
        let address: IpAddr = "203.0.113.5".parse().unwrap();
        let all = Network::new(address, 8);
        let trusted: &[Network] = if rules.is_trusted { &[all] } else { &[] };
        let request = UpstreamRequest {
            head: &head,
            bytes: bytes.as_bytes(),
            source: RequestSource {
                peer: Peer::new(Some(address), trusted),
                client: Some(address),
                scheme: Scheme::Http,
                port: rules.port,
            },
            certificate: ClientCertificate::default(),
            target,
            host_default: b"pool",
            claims: &claims,
            edits: &edits,
            via: rules.via,
            forwarded: rules.forwarded,
            own_cookie: rules.own_cookie,
            close: rules.close,
            more: b"",
        };
        let mut sent = Vec::new();
        request.write(&mut sent);
        let case = Case {
            came: Reading::of(bytes.as_bytes()).unwrap(),
            left_out: left_out.into_iter().flatten().collect(),
            added: added.into_iter().flatten().collect(),
            rules,
            head: &head,
        };
        case.check(&sent, target)?;
    }
}
