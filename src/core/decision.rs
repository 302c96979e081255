//! What became of a request or session, and why it went where it went, as a run of words that can
//! stand in memory which processes share.
//!
//! The first [`GIST_WORDS`] are there always, and are all that is written of most requests besides
//! the beginning of their head. What else there is to say of one that went wrong follows at fixed
//! places. Names are told by their keys: whoever reads this knows which names there are.
//!
//! Whatever is in the words, they are read without a panic: they may be of another version, or of
//! somebody who died.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::core::access_log::{ClosedBy, Why};
use crate::core::finding::Reason;
use crate::core::request_id::OwnId;
use crate::core::time::Tick;

/// Words that every decision has.
pub const GIST_WORDS: usize = 17;
/// Words of a decision, at most.
pub const DECISION_WORDS: usize = 49;

/// Backends that are told of those that failed a request.
pub const TRIES_MAX: usize = 3;
/// Backends that are told of those that could not have a request.
pub const LEFT_OUT_MAX: usize = 4;

// Where the parts begin that not all decisions have.
const LINE_AT: usize = GIST_WORDS;
const TRIES_AT: usize = LINE_AT + LINE_WORDS;
const LEFT_OUT_AT: usize = TRIES_AT + 2 * TRIES_MAX;
const REASON_AT: usize = LEFT_OUT_AT + 2 * LEFT_OUT_MAX;
const TAKEN_AT: usize = REASON_AT + REASON_WORDS;

const LINE_WORDS: usize = 7;
const REASON_WORDS: usize = 6;

/// Bytes of the head of a request that are kept: its method and the beginning of its path.
pub const LINE_BYTES: usize = 8 * LINE_WORDS;

/// What takes so long, in milliseconds, is slow.
pub const SLOW_MS: u64 = 1_000;

/// Stands for a span of time that there was not.
const NEVER: u64 = u32::MAX as u64;

/// What came to an end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    #[default]
    /// A request of HTTP.
    Request = 0,
    /// A session over TCP, a tunnel, or a connection that was refused before it was either.
    Session,
}

/// How a backend was picked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Rule {
    /// There was nothing to pick.
    #[default]
    None = 0,
    /// Each in turn, by weight.
    RoundRobin,
    /// The one with the fewest connections for its weight.
    LeastConn,
    /// The less loaded of two.
    RandomTwo,
    /// By what is hashed of the client or request.
    Hash,
    /// A cookie binds the client.
    Sticky,
    /// A cookie's value is hashed.
    HashCookie,
}

impl Rule {
    const ALL: [Self; 7] = [
        Self::None,
        Self::RoundRobin,
        Self::LeastConn,
        Self::RandomTwo,
        Self::Hash,
        Self::Sticky,
        Self::HashCookie,
    ];

    /// In words; none where nothing was picked.
    pub const fn words(self) -> Option<&'static str> {
        Some(match self {
            Self::None => return None,
            Self::RoundRobin => "weighted round robin",
            Self::LeastConn => "least connections",
            Self::RandomTwo => "the better of two at random",
            Self::Hash => "hash",
            Self::Sticky => "sticky cookie",
            Self::HashCookie => "hash of a cookie",
        })
    }
}

/// What is known of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gist {
    /// Its own id.
    pub id: OwnId,
    /// The key of an id that was taken from a trusted proxy; 0 without one.
    pub taken_key: u64,
    /// What it was.
    pub kind: Kind,
    /// Whose it was; none over a Unix socket.
    pub client: Option<IpAddr>,
    /// Its port; none where it connected to another proxy, and 0 is none.
    pub client_port: Option<u16>,
    /// When it ended.
    pub ended: Tick,
    /// 0 where nothing was answered.
    pub status: u16,
    /// How it ended.
    pub why: Why,
    /// Who closed first; none while the client stays.
    pub closed_by: Option<ClosedBy>,
    /// Backends tried.
    pub attempts: u32,
    /// How its backend was picked.
    pub rule: Rule,
    /// Backends of the upstream.
    pub members: usize,
    /// From the client: data of the body, or all bytes of a session.
    pub bytes_in: u64,
    /// To the client.
    pub bytes_out: u64,
    /// From its first byte to its whole head.
    pub wait_ms: Option<u64>,
    /// For a backend that had no room.
    pub queue_ms: Option<u64>,
    /// Until the connection to the backend stood.
    pub connect_ms: Option<u64>,
    /// Until the first byte of the response.
    pub ttfb_ms: Option<u64>,
    /// From its first byte to its end.
    pub total_ms: u64,
    /// For how long its connection to the backend had been parked; 0 for a new one.
    pub parked_ms: u64,
    /// The key of the name of its listener; 0 for none, as of the next.
    pub listener: u64,
    /// That of its route.
    pub route: u64,
    /// That of its upstream.
    pub upstream: u64,
    /// That of the backend that was tried last.
    pub backend: u64,
}

/// How far a backend came with a request before it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TriedAt {
    /// There was no connection.
    Connect = 0,
    /// There was no answer.
    Answer,
    /// Its connection had ended while it was parked, which is nobody's fault.
    Parked,
}

/// An attempt that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Try {
    /// The key of its name.
    pub backend: u64,
    /// How long after the beginning it failed.
    pub after_ms: u64,
    /// How far it came.
    pub at: TriedAt,
    /// Why it failed, where that is known.
    pub reason: Option<Reason>,
}

/// Why a backend could not have a request that it was not tried for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LeftOutFor {
    /// Checks have found it down.
    Down = 0,
    /// Real traffic has failed there.
    Ejected,
    /// An administrator has it drained.
    Draining,
    /// An administrator has it disabled.
    Disabled,
    /// Its weight is 0.
    NoWeight,
    /// It has all the connections that it may have.
    Full,
}

impl LeftOutFor {
    const ALL: [Self; 6] = [
        Self::Down,
        Self::Ejected,
        Self::Draining,
        Self::Disabled,
        Self::NoWeight,
        Self::Full,
    ];
}

/// A backend that could not have a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The key of its name.
    pub backend: u64,
    /// Why it could not.
    pub what: LeftOutFor,
    /// Of one that is down: for how long when the request ended. Of one that is ejected: how long
    /// after the request had begun that ends.
    pub span_s: u64,
    /// Checks that failed in a row before it was found down.
    pub checks: u32,
    /// Why the last check failed.
    pub reason: Option<Reason>,
}

/// What else is known of a request that went wrong.
#[derive(Clone, Copy, Debug, Default)]
pub struct Details<'a> {
    /// The first [`TRIES_MAX`] of them are kept.
    pub tries: &'a [Try],
    /// The first [`LEFT_OUT_MAX`] of them are kept.
    pub left_out: &'a [LeftOut],
    /// What exactly was wrong.
    pub reason: &'a str,
    /// The id that was taken.
    pub taken: &'a [u8],
}

/// A decision as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What is known of every request.
    pub gist: Gist,
    /// The beginning of the head that went to the backend, or came, of a request; of a session the
    /// name that its client has asked for: see [`Decision::request`].
    line: [u8; LINE_BYTES],
    /// Attempts that failed.
    pub tries: Vec<Try>,
    /// Backends that could not have it.
    pub left_out: Vec<LeftOut>,
    /// What exactly was wrong; may be empty.
    pub reason: String,
    /// The beginning of the id that was taken; empty without one.
    pub taken: String,
}

/// The words of a decision; how many of them were written.
#[derive(Debug)]
pub struct DecisionWords {
    /// The words, zero where nothing was written.
    pub words: [u64; DECISION_WORDS],
    /// How many were written.
    pub used: usize,
}

impl DecisionWords {
    /// A decision with the beginning of its head, of which as much is kept as fits.
    pub fn new(gist: &Gist, head: &[u8]) -> Self {
        let mut words = [0; DECISION_WORDS];
        words[..GIST_WORDS].copy_from_slice(&gist.words());
        let used = put_text(&mut words[LINE_AT..TRIES_AT], head);
        Self {
            words,
            used: LINE_AT + used,
        }
    }

    /// Adds what else there is.
    #[cold]
    pub fn add(&mut self, details: &Details<'_>) {
        let words = &mut self.words;
        let tries = words[TRIES_AT..LEFT_OUT_AT].chunks_exact_mut(2);
        for (pair, it) in tries.zip(details.tries) {
            let (code, status) = Reason::code_of(it.reason);
            pair[0] = it.backend.max(1);
            pair[1] = span32(it.after_ms)
                | (it.at as u64) << 32
                | u64::from(code) << 40
                | u64::from(status) << 48;
        }
        let left_out = words[LEFT_OUT_AT..REASON_AT].chunks_exact_mut(2);
        for (pair, it) in left_out.zip(details.left_out) {
            let (code, status) = Reason::code_of(it.reason);
            pair[0] = it.backend.max(1);
            pair[1] = it.span_s.min(SPAN_S_MAX)
                | u64::from(it.checks.min(0xff)) << SPAN_S_BITS
                | (it.what as u64) << 32
                | u64::from(code) << 40
                | u64::from(status) << 48;
        }
        put_text(&mut words[REASON_AT..TAKEN_AT], details.reason.as_bytes());
        put_text(&mut words[TAKEN_AT..], details.taken);
        self.used = DECISION_WORDS;
    }

    /// Those that were written.
    pub fn used(&self) -> &[u64] {
        &self.words[..self.used]
    }
}

const SPAN_S_BITS: u32 = 24;
const SPAN_S_MAX: u64 = (1 << SPAN_S_BITS) - 1;

/// Puts as much of a text into words as fits; how many it took.
fn put_text(words: &mut [u64], text: &[u8]) -> usize {
    let mut used = 0;
    for (word, bytes) in words.iter_mut().zip(text.chunks(8)) {
        *word = match bytes.first_chunk() {
            Some(bytes) => u64::from_le_bytes(*bytes),
            None => {
                let mut rest = [0; 8];
                rest[..bytes.len()].copy_from_slice(bytes);
                u64::from_le_bytes(rest)
            }
        };
        used += 1;
    }
    used
}

/// The text in words: see [`plain`].
fn text(words: &[u64]) -> String {
    let bytes: Vec<u8> = words.iter().flat_map(|it| it.to_le_bytes()).collect();
    plain(&bytes)
}

/// What is there up to the first byte that is none of a text; what is not UTF-8 is replaced.
fn plain(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte < b' ' || *byte == 0x7f);
    String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned()
}

fn span32(ms: u64) -> u64 {
    ms.min(NEVER - 1)
}

fn maybe32(ms: Option<u64>) -> u64 {
    ms.map_or(NEVER, span32)
}

fn pair(low: u64, high: u64) -> u64 {
    low | high << 32
}

fn low(word: u64) -> u64 {
    word & NEVER
}

fn maybe(half: u64) -> Option<u64> {
    (half != NEVER).then_some(half)
}

fn byte(word: u64, at: u32) -> u8 {
    (word >> at & 0xff) as u8
}

fn bits16(word: u64, at: u32) -> u16 {
    (word >> at & 0xffff) as u16
}

impl Gist {
    fn words(&self) -> [u64; GIST_WORDS] {
        let closed_by = self.closed_by.map_or(0, |by| by as u64 + 1);
        let (family, address) = address_words(self.client);
        [
            self.id.start,
            self.id.number,
            self.ended.0,
            u64::from(self.status)
                | (self.why as u64) << 16
                | (self.kind as u64) << 24
                | closed_by << 32
                | u64::from(self.attempts.min(0xff)) << 40
                | (self.rule as u64) << 48
                | family << 56,
            self.bytes_in,
            self.bytes_out,
            pair(maybe32(self.wait_ms), maybe32(self.queue_ms)),
            pair(maybe32(self.connect_ms), maybe32(self.ttfb_ms)),
            pair(span32(self.total_ms), span32(self.parked_ms)),
            self.listener,
            self.route,
            self.upstream,
            self.backend,
            self.taken_key,
            pair(
                low(self.members as u64),
                u64::from(self.client_port.unwrap_or(0)),
            ),
            address[0],
            address[1],
        ]
    }

    fn read(words: &[u64; DECISION_WORDS]) -> Option<Self> {
        let facts = words[3];
        let parties = [ClosedBy::Client, ClosedBy::Backend, ClosedBy::Weir];
        let closed_by = usize::from(byte(facts, 32)).checked_sub(1);
        Some(Self {
            id: id_of(words),
            ended: Tick(words[2]),
            status: bits16(facts, 0),
            why: *Why::ALL.get(usize::from(byte(facts, 16)))?,
            kind: match byte(facts, 24) {
                0 => Kind::Request,
                1 => Kind::Session,
                _ => return None,
            },
            closed_by: closed_by.and_then(|at| parties.get(at)).copied(),
            attempts: u32::from(byte(facts, 40)),
            rule: *Rule::ALL.get(usize::from(byte(facts, 48)))?,
            bytes_in: words[4],
            bytes_out: words[5],
            wait_ms: maybe(low(words[6])),
            queue_ms: maybe(words[6] >> 32),
            connect_ms: maybe(low(words[7])),
            ttfb_ms: maybe(words[7] >> 32),
            total_ms: low(words[8]),
            parked_ms: words[8] >> 32,
            listener: words[9],
            route: words[10],
            upstream: words[11],
            backend: words[12],
            taken_key: words[13],
            members: usize::try_from(low(words[14])).unwrap_or(0),
            client: address_of(byte(facts, 56), [words[15], words[16]]),
            client_port: Some(bits16(words[14], 32)).filter(|port| *port != 0),
        })
    }
}

const FAMILY_NONE: u8 = 0;
const FAMILY_V4: u8 = 4;
const FAMILY_V6: u8 = 6;

/// The family of an address, and its bits.
fn address_words(address: Option<IpAddr>) -> (u64, [u64; 2]) {
    match address {
        None => (FAMILY_NONE.into(), [0; 2]),
        Some(IpAddr::V4(address)) => (FAMILY_V4.into(), [address.to_bits().into(), 0]),
        Some(IpAddr::V6(address)) => {
            let octets = address.octets();
            let (halves, _) = octets.as_chunks();
            let halves = [halves[0], halves[1]];
            (FAMILY_V6.into(), halves.map(u64::from_be_bytes))
        }
    }
}

fn address_of(family: u8, [first, second]: [u64; 2]) -> Option<IpAddr> {
    match family {
        FAMILY_V4 => {
            let bits = u32::try_from(low(first)).unwrap_or(0);
            Some(Ipv4Addr::from_bits(bits).into())
        }
        FAMILY_V6 => {
            let bits = u128::from(first) << 64 | u128::from(second);
            Some(Ipv6Addr::from_bits(bits).into())
        }
        _ => None,
    }
}

/// The id in the words of a decision, which is enough to tell whether it is meant.
#[must_use]
pub fn id_of(words: &[u64; DECISION_WORDS]) -> OwnId {
    OwnId {
        start: words[0],
        number: words[1],
    }
}

/// When it ended, there.
#[must_use]
pub fn ended_of(words: &[u64; DECISION_WORDS]) -> Tick {
    Tick(words[2])
}

/// The key of the id that was taken, there; 0 without one.
#[must_use]
pub fn taken_key_of(words: &[u64; DECISION_WORDS]) -> u64 {
    words[13]
}

impl Decision {
    /// What is in these words; none where that is no decision.
    #[must_use]
    pub fn read(words: &[u64; DECISION_WORDS]) -> Option<Self> {
        let mut line = [0; LINE_BYTES];
        for (bytes, word) in line.chunks_exact_mut(8).zip(&words[LINE_AT..TRIES_AT]) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        let tries = words[TRIES_AT..LEFT_OUT_AT]
            .chunks_exact(2)
            .map_while(|it| {
                Some(Try {
                    backend: Some(it[0]).filter(|key| *key != 0)?,
                    after_ms: low(it[1]),
                    at: match byte(it[1], 32) {
                        0 => TriedAt::Connect,
                        1 => TriedAt::Answer,
                        2 => TriedAt::Parked,
                        _ => return None,
                    },
                    reason: Reason::read(byte(it[1], 40).into(), bits16(it[1], 48)),
                })
            });
        let left_out = words[LEFT_OUT_AT..REASON_AT].chunks_exact(2);
        let left_out = left_out.map_while(|it| {
            Some(LeftOut {
                backend: Some(it[0]).filter(|key| *key != 0)?,
                what: *LeftOutFor::ALL.get(usize::from(byte(it[1], 32)))?,
                span_s: it[1] & SPAN_S_MAX,
                checks: u32::from(byte(it[1], SPAN_S_BITS)),
                reason: Reason::read(byte(it[1], 40).into(), bits16(it[1], 48)),
            })
        });
        Some(Self {
            gist: Gist::read(words)?,
            line,
            tries: tries.collect(),
            left_out: left_out.collect(),
            reason: text(&words[REASON_AT..TAKEN_AT]),
            taken: text(&words[TAKEN_AT..]),
        })
    }

    /// The name of the server that the client of a session has asked for, as far as it fits; empty
    /// where it is not known.
    #[must_use]
    pub fn server_name(&self) -> String {
        match self.gist.kind {
            Kind::Request => String::new(),
            Kind::Session => plain(&self.line),
        }
    }

    /// Method and path, without a query, which may hold what is secret; cut where it was too long,
    /// and empty where it is not known.
    #[must_use]
    pub fn request(&self) -> String {
        if self.gist.kind != Kind::Request {
            return String::new();
        }
        let is_end = |byte: &u8| *byte == b'?' || *byte < b' ' || *byte >= 0x7f;
        let end = self.line.iter().position(is_end).unwrap_or(LINE_BYTES);
        let line = &self.line[..end];
        let mut words = line.split(|byte| *byte == b' ');
        let (method, path) = (words.next().unwrap_or(b""), words.next());
        let Some(path) = path else {
            return String::new();
        };
        let cut = if end == LINE_BYTES && words.next().is_none() {
            "..."
        } else {
            ""
        };
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        format!("{} {}{cut}", text(method), text(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::rng::Rng;

    fn gist() -> Gist {
        Gist {
            id: OwnId {
                start: u64::MAX,
                number: 7,
            },
            taken_key: 5,
            kind: Kind::Request,
            client: Some(Ipv4Addr::new(192, 0, 2, 1).into()),
            client_port: Some(51_234),
            ended: Tick(123_456),
            status: 502,
            why: Why::ConnectFailed,
            closed_by: Some(ClosedBy::Weir),
            attempts: 2,
            rule: Rule::RoundRobin,
            members: 3,
            bytes_in: 80,
            bytes_out: u64::MAX,
            wait_ms: Some(1),
            queue_ms: None,
            connect_ms: Some(0),
            ttfb_ms: None,
            total_ms: 12,
            parked_ms: 9,
            listener: 1,
            route: 2,
            upstream: 3,
            backend: 4,
        }
    }

    fn read_back(gist: &Gist, head: &[u8], details: &Details<'_>) -> Decision {
        let mut written = DecisionWords::new(gist, head);
        written.add(details);
        let mut words = [0; DECISION_WORDS];
        words[..written.used().len()].copy_from_slice(written.used());
        Decision::read(&words).expect("it was written")
    }

    #[test]
    fn what_is_written_is_read() {
        let tries = [
            (TriedAt::Connect, Some(Reason::Refused)),
            (TriedAt::Answer, Some(Reason::Status(503))),
            (TriedAt::Parked, None),
            (TriedAt::Answer, None),
        ]
        .map(|(at, reason)| Try {
            backend: 9,
            after_ms: 7,
            at,
            reason,
        });
        let left_out = LeftOutFor::ALL.map(|what| LeftOut {
            backend: u64::MAX,
            what,
            span_s: 100_000,
            checks: 3,
            reason: Some(Reason::TimedOut),
        });
        let details = Details {
            tries: &tries,
            left_out: &left_out,
            reason: "what exactly was wrong",
            taken: b"f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
        };
        let head = b"GET /a/b?secret=1 HTTP/1.1\r\nHost: a.test\r\n";
        let decision = read_back(&gist(), head, &details);
        assert_eq!(decision.gist, gist());
        assert_eq!(decision.request(), "GET /a/b");
        assert_eq!(decision.tries, tries[..TRIES_MAX]);
        assert_eq!(decision.left_out, left_out[..LEFT_OUT_MAX]);
        assert_eq!(decision.reason, details.reason);
        assert_eq!(decision.taken.as_bytes(), details.taken);
    }

    #[test]
    fn what_is_too_large_is_cut() {
        let gist = Gist {
            attempts: 1_000,
            total_ms: u64::MAX,
            parked_ms: u64::MAX,
            ..gist()
        };
        let left_out = [LeftOut {
            backend: 1,
            what: LeftOutFor::Down,
            span_s: u64::MAX,
            checks: 1_000,
            reason: None,
        }];
        let details = Details {
            left_out: &left_out,
            reason: &"r".repeat(100),
            taken: &[b't'; 200],
            ..Details::default()
        };
        let head = format!("GET /{} HTTP/1.1\r\n", "x".repeat(100));
        let decision = read_back(&gist, head.as_bytes(), &details);
        assert_eq!(
            (decision.gist.attempts, decision.gist.total_ms),
            (255, 0xffff_fffe)
        );
        assert_eq!(
            (decision.left_out[0].checks, decision.left_out[0].span_s),
            (255, SPAN_S_MAX)
        );
        assert_eq!(decision.reason.len(), 48);
        assert!(decision.request().starts_with("GET /xxx"));
        assert!(decision.request().ends_with("x..."));
    }

    #[test]
    fn whose_it_was_is_read_whatever_the_family() {
        let addresses = ["0.0.0.0", "255.255.255.255", "::", "2001:db8::ffff:1"];
        let addresses = addresses.map(|it| it.parse().ok());
        assert!(addresses.iter().all(Option::is_some));
        for client in addresses.into_iter().chain([None]) {
            for client_port in [None, Some(1), Some(u16::MAX)] {
                let gist = Gist {
                    client,
                    client_port,
                    members: 4_096,
                    ..gist()
                };
                assert_eq!(read_back(&gist, b"", &Details::default()).gist, gist);
            }
        }
    }

    #[test]
    fn a_session_has_the_name_that_was_asked_for_and_no_request() {
        let gist = Gist {
            kind: Kind::Session,
            ..gist()
        };
        let decision = read_back(&gist, b"a.test", &Details::default());
        assert_eq!(decision.server_name(), "a.test");
        assert_eq!(decision.request(), "");
        let decision = read_back(&super::tests::gist(), b"GET / HTTP", &Details::default());
        assert_eq!(decision.server_name(), "");
    }

    #[test]
    fn a_request_that_was_never_read_has_no_line() {
        for head in [&b""[..], b"GET", b"\xff\xfe /", b"\r\n\r\n"] {
            let words = DecisionWords::new(&gist(), head);
            let decision = Decision::read(&words.words).expect("it was written");
            assert_eq!(decision.request(), "", "{head:?}");
        }
    }

    #[test]
    fn any_words_are_read_without_a_panic() {
        let mut rng = Rng::new(1);
        let mut read = 0;
        for round in 0..20_000_u64 {
            let mut words = [0; DECISION_WORDS];
            for word in &mut words {
                // Runs of equal bytes reach the edges that random ones seldom do.
                *word = match rng.below(4) {
                    0 => 0,
                    1 => u64::MAX,
                    _ => rng.next_u64(),
                };
            }
            if round % 2 == 0 {
                words[3] = gist().words()[3];
            }
            if let Some(decision) = Decision::read(&words) {
                assert!(decision.tries.len() <= TRIES_MAX);
                assert!(decision.request().len() <= 3 * LINE_BYTES + 3);
                read += 1;
            }
        }
        assert!(read > 1_000, "{read} were decisions");
    }
}
