//! The steps that are measured: each is made ready once and then repeated.

use std::collections::VecDeque;
use std::hint::black_box;

use weir::core::backend::{Backends, NewBackend, PoolId};
use weir::core::balance::{Algorithm, Ask, Balancer, bytes_key};
use weir::core::health::{Health, Verdict};
use weir::core::http::body::{Body, Framing};
use weir::core::http::head::{HeadLimits, Method, RequestHead, ResponseHead, Version};
use weir::core::http::known::KnownSet;
use weir::core::http::rewrite::{
    END, FieldEdits, RequestRewrite, ResponseRewrite, write_request, write_response,
};
use weir::core::http::route::{HostPattern, RouteTable, Rule};
use weir::core::time::Tick;
use weir::core::timer::TimerWheel;

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 16 << 10,
    fields_max: 100,
};

const REQUEST: &[u8] = b"GET /api/v1/items/42?fields=name,price HTTP/1.1\r\n\
Host: shop.example.com\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
Accept-Language: en-US,en;q=0.5\r\n\
Accept-Encoding: gzip, deflate, br, zstd\r\n\
Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\
Connection: keep-alive\r\n\
Cache-Control: max-age=0\r\n\
\r\n";

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
Server: nginx\r\n\
Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
Content-Type: application/json; charset=utf-8\r\n\
Content-Length: 1234\r\n\
Cache-Control: private, max-age=60\r\n\
ETag: \"5f3c-1a2b3c4d\"\r\n\
Vary: Accept-Encoding\r\n\
\r\n";

const DATE: &[u8; 29] = b"Thu, 01 Jan 1970 00:00:00 GMT";

/// A step that can be repeated.
pub(crate) type Step = Box<dyn FnMut()>;

/// A named step.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Makes it ready.
    pub(crate) prepare: fn() -> Step,
}

/// All of them, in the order of the report.
pub(crate) const ALL: &[Case] = &[
    case("request-parse", request_parse),
    case("request-parse-rewrite", request_parse_rewrite),
    case("response-parse", response_parse),
    case("response-parse-rewrite", response_parse_rewrite),
    case("route-find-20", || route_find(20)),
    case("route-find-1k", || route_find(1_000)),
    case("route-find-10k", || route_find(10_000)),
    case("pick-round-robin-3", || {
        pick(Algorithm::RoundRobin, 3, |_| 1)
    }),
    case("pick-round-robin-1k", || {
        pick(Algorithm::RoundRobin, 1_000, |_| 1)
    }),
    case("pick-round-robin-4k", || {
        pick(Algorithm::RoundRobin, 4_000, |_| 1)
    }),
    case("pick-round-robin-4k-weights", || {
        pick(Algorithm::RoundRobin, 4_000, |i| 1 + i % 100)
    }),
    case("pick-least-conn-3", || {
        pick(Algorithm::LeastConnections, 3, |_| 1)
    }),
    case("pick-least-conn-1k", || {
        pick(Algorithm::LeastConnections, 1_000, |_| 1)
    }),
    case("pick-least-conn-4k", || {
        pick(Algorithm::LeastConnections, 4_000, |_| 1)
    }),
    case("pick-least-conn-4k-weights", || {
        pick(Algorithm::LeastConnections, 4_000, |i| 1 + i % 100)
    }),
    case("pick-random-two-3", || pick(Algorithm::RandomTwo, 3, |_| 1)),
    case("pick-random-two-1k", || {
        pick(Algorithm::RandomTwo, 1_000, |_| 1)
    }),
    case("pick-random-two-4k", || {
        pick(Algorithm::RandomTwo, 4_000, |_| 1)
    }),
    case("pick-random-two-4k-weights", || {
        pick(Algorithm::RandomTwo, 4_000, |i| 1 + i % 100)
    }),
    case("pick-hash-3", || pick(Algorithm::Hash, 3, |_| 1)),
    case("pick-hash-1k", || pick(Algorithm::Hash, 1_000, |_| 1)),
    case("pick-hash-4k", || pick(Algorithm::Hash, 4_000, |_| 1)),
    case("pick-hash-4k-weights", || {
        pick(Algorithm::Hash, 4_000, |i| 1 + i % 100)
    }),
    case("timer-arm-cancel-10k", timer_arm_cancel),
    case("timer-rearm-expire-10k", timer_expire),
    case("body-chunked-16k-by-1k", body_chunked),
    case("body-length-16k", body_length),
];

const fn case(name: &'static str, prepare: fn() -> Step) -> Case {
    Case { name, prepare }
}

fn request_parse() -> Step {
    let mut head = RequestHead::default();
    Box::new(move || {
        let parsed = head.parse(black_box(REQUEST), LIMITS);
        assert!(black_box(parsed).is_ok(), "the request is good");
    })
}

fn request_parse_rewrite() -> Step {
    let mut head = RequestHead::default();
    let mut out = Vec::with_capacity(4096);
    let edits = FieldEdits::default();
    Box::new(move || {
        let parsed = head.parse(black_box(REQUEST), LIMITS);
        assert!(black_box(parsed).is_ok(), "the request is good");
        let rewrite = RequestRewrite {
            target: None,
            host_default: b"backend",
            drop: KnownSet::default(),
            drop_by_name: None,
            edits: &edits,
            close: false,
        };
        out.clear();
        write_request(&head, REQUEST, &rewrite, &mut out);
        out.extend_from_slice(b"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\n");
        out.extend_from_slice(END);
        black_box(&out);
    })
}

fn response_parse() -> Step {
    let mut head = ResponseHead::default();
    Box::new(move || {
        let parsed = head.parse(black_box(RESPONSE), Method::Get, LIMITS);
        assert!(black_box(parsed).is_ok(), "the response is good");
    })
}

fn response_parse_rewrite() -> Step {
    let mut head = ResponseHead::default();
    let mut out = Vec::with_capacity(4096);
    let edits = FieldEdits::default();
    Box::new(move || {
        let parsed = head.parse(black_box(RESPONSE), Method::Get, LIMITS);
        assert!(black_box(parsed).is_ok(), "the response is good");
        let rewrite = ResponseRewrite {
            client: Version::Http11,
            keep_alive: true,
            drop: KnownSet::default(),
            edits: &edits,
            date: DATE,
        };
        out.clear();
        black_box(write_response(&head, RESPONSE, &rewrite, &mut out));
        out.extend_from_slice(END);
        black_box(&out);
    })
}

/// So many prefixes on two hosts.
fn route_find(count: usize) -> Step {
    let rules: Vec<Rule> = (0..count)
        .map(|i| Rule {
            host: if i % 2 == 0 {
                HostPattern::Exact("shop.example.com".to_owned())
            } else {
                HostPattern::Any
            },
            prefix: format!("/api/v{i}/"),
            methods: Vec::new(),
        })
        .collect();
    let table = RouteTable::new(&rules).expect("every prefix begins with a slash");
    Box::new(move || {
        let found = table.find(b"shop.example.com", black_box(b"/api/v18/items"), b"GET");
        black_box(found);
    })
}

/// Picks one of so many, and takes a lease on it, which ends when eight others are out.
fn pick(algorithm: Algorithm, count: u32, weight: fn(u32) -> u32) -> Step {
    let mut backends = Backends::new();
    let members: Vec<_> = (0..count)
        .map(|i| {
            backends.insert(NewBackend {
                identity: format!("192.0.2.1:{i}"),
                weight: weight(i),
                connections_max: None,
                health: Health::new(Verdict::Up, Tick(0)),
            })
        })
        .collect();
    let mut balancer = Balancer::new(algorithm, 1, PoolId(0));
    balancer.adopt(&members, &mut backends);
    let mut leases = VecDeque::new();
    let mut request: u64 = 0;
    Box::new(move || {
        request += 1;
        let ask = Ask {
            key: bytes_key(&request.to_le_bytes()),
            is_bound: false,
            tried: &[],
            even_if_down: false,
            turn: None,
        };
        let picked = balancer.pick(&members, &mut backends, &ask);
        leases.push_back(backends.take(picked.expect("every backend is up")));
        if leases.len() > 8
            && let Some(lease) = leases.pop_front()
        {
            backends.give_back(lease);
        }
    })
}

fn full_wheel() -> TimerWheel<u32> {
    let mut wheel = TimerWheel::new(Tick(0));
    for i in 0..10_000_u32 {
        wheel.arm(Tick(60_000 + u64::from(i)), i);
    }
    wheel
}

fn timer_arm_cancel() -> Step {
    let mut wheel = full_wheel();
    let mut at = 0;
    Box::new(move || {
        at = (at + 7919) % 60_000;
        let key = wheel.arm(Tick(at), 0);
        assert!(black_box(wheel.cancel(key)).is_some(), "it was just armed");
    })
}

/// A millisecond passes, and what fires is armed again.
fn timer_expire() -> Step {
    let mut wheel = full_wheel();
    let mut due = Vec::with_capacity(64);
    let mut now = 60_000;
    wheel.expire(Tick(now - 1), &mut due);
    Box::new(move || {
        due.clear();
        wheel.expire(Tick(now), &mut due);
        for what in &due {
            wheel.arm(Tick(now + 10_000), *what);
        }
        assert_eq!(due.len(), 1, "one timer is due every millisecond");
        now += 1;
    })
}

fn body_chunked() -> Step {
    let mut bytes = Vec::new();
    for _ in 0..16 {
        bytes.extend_from_slice(b"400\r\n");
        bytes.extend_from_slice(&[b'x'; 1024]);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    Box::new(move || feed(Body::new(Framing::Chunked, true), &bytes))
}

fn body_length() -> Step {
    let bytes = vec![b'x'; 16 << 10];
    Box::new(move || feed(Body::new(Framing::Length(16 << 10), true), &bytes))
}

fn feed(mut body: Body, bytes: &[u8]) {
    let mut left = black_box(bytes);
    while !body.is_done() {
        let piece = body.feed(left).expect("the body is good");
        left = &left[piece.consumed..];
    }
    black_box(&body);
}
