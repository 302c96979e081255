//! One seed: what is configured, what clients ask, what origins do, and what must come of it.

use std::collections::BTreeMap;

use weir::core::http::sticky::TagKey;
use weir::core::rng::Rng;
use weir::worker::Stage;

use crate::message::{Message, Otherwise, body, chunked, read};
use crate::net::{Behaviour, PeerId, Settings};
use crate::rig::{Rig, origin_address};

/// Backends of every configuration.
const BACKENDS: usize = 3;
/// Turns after which a seed that has not ended is stuck.
const TURNS_MAX: u32 = 400_000;

/// A configuration; the plain one has a single backend and no surprises.
pub(crate) fn config_text(rng: &mut Rng, is_plain: bool) -> String {
    let backends = if is_plain { 1 } else { BACKENDS };
    let draw = |rng: &mut Rng, choices: &[&'static str]| {
        let count = u64::try_from(choices.len()).expect("few choices");
        choices[usize::try_from(rng.below(count)).expect("a small number")]
    };
    let mut more = String::new();
    let mut limit = "";
    if !is_plain {
        let algorithm = draw(
            rng,
            &[
                "",
                "    sticky: {cookie: weir}\n",
                "    sticky: {cookie: weir, wait: 30ms}\n",
                "    sticky: {cookie: weir, wait: 0}\n",
                "    algorithm: least_conn\n",
            ],
        );
        if algorithm.contains("sticky") {
            limit = draw(rng, &["", ", max_connections: 1", ", max_connections: 2"]);
        }
        more += algorithm;
        more += draw(
            rng,
            &[
                "",
                "    reuse: {idle_connections: 0}\n",
                "    reuse: {idle_connections: 1}\n",
            ],
        );
    }
    let top = if is_plain {
        ""
    } else {
        draw(
            rng,
            &[
                "",
                "buffers: {size: 8KiB, memory: 32KiB}\n",
                "splice: false\n",
            ],
        )
    };
    let list: String = (0..backends)
        .map(|k| {
            let address = crate::rig::origin(k);
            format!("{{id: b{k}, address: \"{address}\"{limit}}}, ")
        })
        .collect();
    format!(
        "stats_interval: 0\n{top}listeners:\n  - name: in\n    listen: \"10.9.9.9:80\"\n    \
         routes: [{{prefix: /, upstream: pool}}]\nupstreams:\n  pool:\n    backends: [{list}]\n\
         \x20   passive: {{failures: 0}}\n{more}"
    )
}

/// What an origin does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Length,
    Chunked,
    UntilClose,
    InterimFirst,
    NoContent,
    Close,
    Reset,
    CutLength,
    CutChunked,
    /// Answers as soon as there is a head, and reads on.
    Early,
    /// The same, and ends its direction behind the answer.
    EarlyEnd,
    /// The same, and resets the connection once the answer has arrived.
    EarlyReset,
    AnswerAndClose,
}

impl Deed {
    fn is_early(self) -> bool {
        matches!(self, Self::Early | Self::EarlyEnd | Self::EarlyReset)
    }

    /// Whether it leaves nothing for the client to miss.
    fn is_benign(self) -> bool {
        !matches!(
            self,
            Self::Close | Self::Reset | Self::CutLength | Self::CutChunked | Self::EarlyReset
        )
    }
}

const DEEDS: [Deed; 19] = [
    Deed::Length,
    Deed::Chunked,
    Deed::UntilClose,
    Deed::InterimFirst,
    Deed::NoContent,
    Deed::Close,
    Deed::Reset,
    Deed::CutLength,
    Deed::CutChunked,
    Deed::Early,
    Deed::EarlyEnd,
    Deed::EarlyReset,
    Deed::Early,
    Deed::AnswerAndClose,
    Deed::Length,
    Deed::Length,
    Deed::Chunked,
    Deed::Length,
    Deed::Chunked,
];

#[derive(Debug)]
struct Request {
    id: u64,
    method: &'static str,
    bytes: Vec<u8>,
    deed: Deed,
    answer_length: usize,
}

struct Client {
    peer: PeerId,
    requests: Vec<Request>,
    is_old: bool,
    is_pipelining: bool,
    /// Requests whose bytes were handed over.
    sent: usize,
    /// It ends its direction behind its last request.
    ends: bool,
    /// It leaves by reset once it has received so much.
    leaves_after: Option<usize>,
    has_left: bool,
}

struct Backend {
    peer: PeerId,
    /// Bytes of it that were understood.
    read: usize,
    is_gone: bool,
    /// An answer to this request went out before the request had come as a whole.
    answered_early: Option<u64>,
    /// It has ended its direction.
    has_ended: bool,
    /// It resets the connection once all that it sent has arrived.
    resets: bool,
}

/// A seed being played.
pub(crate) struct Play {
    rng: Rng,
    rig: Rig,
    clients: Vec<Client>,
    backends: Vec<Backend>,
    /// How often each request reached an origin with a whole head.
    arrivals: BTreeMap<u64, u32>,
}

impl Play {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let text = config_text(&mut rng, false);
        let is_wide = rng.below(4) == 0;
        let mut settings = Settings::hostile();
        if is_wide {
            settings.window_bytes = 1..=200_000;
            settings.segment_bytes = 1..=100_000;
        } else {
            settings.window_bytes = 40..=3_000;
            settings.segment_bytes = 1..=1_000;
        }
        let rig = Rig::new(seed, settings, &text);
        for k in 0..BACKENDS {
            let behaviour = match rng.below(12) {
                0 if k > 0 => Behaviour::Refuse,
                1 if k > 0 => Behaviour::AcceptThenReset,
                2 if k > 0 => Behaviour::Blackhole,
                _ => Behaviour::Accept,
            };
            rig.world().origin_listen(&origin_address(k), behaviour);
        }
        let mut play = Self {
            rng,
            rig,
            clients: Vec::new(),
            backends: Vec::new(),
            arrivals: BTreeMap::new(),
        };
        let largest = if is_wide { 180_000 } else { 4_000 };
        for n in 0..=play.rng.below(5) {
            let client = play.client(n, largest);
            play.clients.push(client);
        }
        play
    }

    fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).expect("a small number");
        usize::try_from(self.rng.below(limit)).expect("a small number")
    }

    fn client(&mut self, number: u64, largest: usize) -> Client {
        let is_old = self.rng.below(8) == 0;
        let count = if is_old { 1 } else { 1 + self.below(4) };
        let requests = (0..count)
            .map(|k| {
                let k = u64::try_from(k).expect("a small number");
                self.request(number * 100 + k, is_old, largest)
            })
            .collect();
        let leaves_after = (self.rng.below(6) == 0).then(|| self.below(3_000));
        Client {
            peer: self.rig.client(),
            requests,
            is_old,
            is_pipelining: self.rng.below(3) == 0,
            sent: 0,
            ends: self.rng.below(4) == 0,
            leaves_after,
            has_left: false,
        }
    }

    fn request(&mut self, id: u64, is_old: bool, largest: usize) -> Request {
        let method = ["GET", "GET", "HEAD", "PUT", "POST"][self.below(5)];
        let deed = DEEDS[self.below(DEEDS.len())];
        let version = if is_old { "1.0" } else { "1.1" };
        let mut head = format!("{method} /{id} HTTP/{version}\r\nHost: a\r\n");
        if self.rng.below(2) == 0 {
            head += &self.cookie();
        }
        let mut sent = Vec::new();
        if matches!(method, "PUT" | "POST") {
            let length = self.below(largest);
            let bytes = body(id, length);
            head += &format!("X-Length: {length}\r\n");
            if !is_old && self.rng.below(2) == 0 {
                head += "Transfer-Encoding: chunked\r\n";
                let piece = 1 + self.below(largest);
                sent = chunked(&bytes, piece, true);
            } else {
                head += &format!("Content-Length: {length}\r\n");
                sent = bytes;
            }
        }
        let mut bytes = (head + "\r\n").into_bytes();
        bytes.extend_from_slice(&sent);
        Request {
            id,
            method,
            bytes,
            deed,
            answer_length: self.below(largest),
        }
    }

    /// A cookie that binds to one of the backends, where the configuration knows such.
    fn cookie(&mut self) -> String {
        let backend = format!("b{}", self.below(BACKENDS));
        let tag = TagKey::new(b"weir").tag("pool", &backend);
        let tag = std::str::from_utf8(tag.as_bytes()).expect("a tag is text");
        format!("Cookie: weir={tag}\r\n")
    }

    /// Plays until everything has come to its end, and judges what was seen.
    pub(crate) fn run(mut self) {
        let mut turns = 0;
        while !self.is_over() {
            self.drive_clients();
            self.rig.turn();
            self.drive_origins();
            turns += 1;
            assert!(turns < TURNS_MAX, "stuck: {:?}", self.rig.worker.census());
        }
        self.judge_clients();
        for client in &self.clients {
            if !client.has_left {
                self.rig.world().peer_close(client.peer);
            }
        }
        self.rig.worker.drain();
        while self.rig.worker.stage() != Stage::Finished {
            self.rig.turn();
            self.drive_origins();
            turns += 1;
            assert!(
                turns < 2 * TURNS_MAX,
                "no end: {:?}",
                self.rig.worker.census()
            );
        }
        let census = self.rig.worker.census();
        let left = (
            census.sessions,
            census.leases,
            census.buffers_lent,
            census.pipes_lent,
            census.bytes_waiting,
        );
        assert_eq!(left, (0, 0, 0, 0, 0), "something is left");
        assert_eq!(self.rig.world().open_streams(), 0, "streams are left");
        for (id, count) in &self.arrivals {
            let request = self.find(*id);
            assert!(
                *count <= 1 || request.method != "POST",
                "POST /{id} reached an origin {count} times"
            );
        }
    }

    fn find(&self, id: u64) -> &Request {
        let mut all = self.clients.iter().flat_map(|client| &client.requests);
        all.find(|request| request.id == id)
            .expect("a known number")
    }

    /// Every client has all its answers, has left, or was sent away; and what was answered early
    /// has come as a whole.
    fn is_over(&self) -> bool {
        let world = self.rig.net.world();
        let has_left = |id: u64| {
            let mut clients = self.clients.iter();
            clients.any(|it| it.has_left && it.requests.iter().any(|request| request.id == id))
        };
        let mut awaited = self.backends.iter().filter(|backend| !backend.is_gone);
        if awaited.any(|it| it.answered_early.is_some_and(|id| !has_left(id))) {
            return false;
        }
        self.clients.iter().all(|client| {
            client.has_left
                || world.peer_saw_end(client.peer)
                || world.peer_saw_reset(client.peer)
                || answers(client, world.peer_received(client.peer), false)
                    .iter()
                    .filter(|answer| answer.is_whole)
                    .count()
                    == client.requests.len()
        })
    }

    fn drive_clients(&mut self) {
        for client in &mut self.clients {
            if client.has_left {
                continue;
            }
            let (received, done) = {
                let world = self.rig.net.world();
                let received = world.peer_received(client.peer);
                let seen = answers(client, received, false);
                let done = seen.iter().filter(|answer| answer.is_whole).count();
                (received.len(), done)
            };
            let mut world = self.rig.net.world();
            if client.leaves_after.is_some_and(|limit| received > limit) {
                client.has_left = true;
                world.peer_reset(client.peer);
                continue;
            }
            while client.sent < client.requests.len()
                && (client.is_pipelining || client.sent == done)
            {
                world.peer_send(client.peer, &client.requests[client.sent].bytes);
                client.sent += 1;
                if client.ends && client.sent == client.requests.len() {
                    world.peer_close_write(client.peer);
                }
            }
        }
    }

    fn drive_origins(&mut self) {
        for k in 0..BACKENDS {
            for peer in self.rig.accepted(k) {
                self.backends.push(Backend {
                    peer,
                    read: 0,
                    is_gone: false,
                    answered_early: None,
                    has_ended: false,
                    resets: false,
                });
            }
        }
        let mut backends = std::mem::take(&mut self.backends);
        for backend in &mut backends {
            self.drive_origin(backend);
        }
        self.backends = backends;
    }

    fn drive_origin(&mut self, backend: &mut Backend) {
        if backend.is_gone {
            return;
        }
        if backend.resets && self.rig.world().peer_unsent(backend.peer) == 0 {
            backend.is_gone = true;
            return self.rig.world().peer_reset(backend.peer);
        }
        let (message, has_ended) = {
            let world = self.rig.net.world();
            let received = world.peer_received(backend.peer);
            let message = read(&received[backend.read..], false, Otherwise::Empty);
            (
                message,
                world.peer_saw_end(backend.peer) || world.peer_saw_reset(backend.peer),
            )
        };
        if let Some(message) = message {
            self.on_request(backend, &message);
        } else if has_ended {
            self.judge_cut(backend);
            backend.is_gone = true;
            self.rig.world().peer_close(backend.peer);
        }
    }

    fn on_request(&mut self, backend: &mut Backend, message: &Message) {
        let path = message.start.split(' ').nth(1).expect("a target");
        let id: u64 = path[1..].parse().expect("a number");
        if backend.answered_early.is_some() {
            // The answer is out; the rest of the request is awaited.
            if message.is_whole {
                check_body(id, message);
                backend.read += message.used;
                backend.answered_early = None;
            } else if self.rig.world().peer_saw_end(backend.peer) {
                self.judge_cut(backend);
            } else if backend.has_ended && self.is_reset_by_mark(backend.peer) {
                backend.is_gone = true;
            }
            return;
        }
        assert!(!backend.has_ended, "a request where no answer can follow");
        let request = self.find(id);
        let (deed, answer_length, is_head) = (
            request.deed,
            request.answer_length,
            request.method == "HEAD",
        );
        assert!(
            message.field("x-forwarded-for").is_some(),
            "weir says for whom it asks"
        );
        if !message.is_whole && !deed.is_early() {
            return;
        }
        let count = self.arrivals.entry(id).or_default();
        *count += 1;
        let is_first = *count == 1;
        if message.is_whole {
            check_body(id, message);
            backend.read += message.used;
        } else {
            backend.answered_early = Some(id);
        }
        self.answer(backend, id, (deed, is_first), answer_length, is_head);
    }

    fn answer(
        &self,
        backend: &mut Backend,
        id: u64,
        (deed, is_first): (Deed, bool),
        length: usize,
        is_head: bool,
    ) {
        let mut world = self.rig.net.world();
        let peer = backend.peer;
        let whole = body(id + 7, length);
        let sent: &[u8] = if is_head { b"" } else { &whole };
        let head = |status: &str, fields: &str| {
            format!("HTTP/1.1 {status}\r\nX-Id: {id}\r\n{fields}\r\n").into_bytes()
        };
        let plain = || {
            [
                &head("200 OK", &format!("Content-Length: {length}\r\n")),
                sent,
            ]
            .concat()
        };
        match deed {
            Deed::Close if is_first => {
                backend.is_gone = true;
                world.peer_close(peer);
            }
            Deed::Reset if is_first => {
                backend.is_gone = true;
                world.peer_reset(peer);
            }
            Deed::Length | Deed::Early | Deed::Close | Deed::Reset => {
                world.peer_send(peer, &plain());
            }
            Deed::EarlyReset => {
                world.peer_send(peer, &plain());
                backend.resets = true;
            }
            Deed::EarlyEnd => {
                let fields = format!("Connection: close\r\nContent-Length: {length}\r\n");
                world.peer_send(peer, &[&head("200 OK", &fields), sent].concat());
                world.peer_close_write(peer);
                backend.has_ended = true;
            }
            Deed::Chunked => {
                let mut bytes = head("200 OK", "Transfer-Encoding: chunked\r\n");
                if !is_head {
                    bytes.extend_from_slice(&chunked(&whole, 700, true));
                }
                world.peer_send(peer, &bytes);
            }
            Deed::UntilClose => {
                world.peer_send(peer, &[&head("200 OK", ""), sent].concat());
                backend.is_gone = true;
                world.peer_close(peer);
            }
            Deed::InterimFirst => {
                let mut bytes = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".to_vec();
                bytes.extend_from_slice(&plain());
                world.peer_send(peer, &bytes);
            }
            Deed::NoContent => world.peer_send(peer, &head("204 No Content", "")),
            Deed::CutLength => {
                let fields = format!("Content-Length: {}\r\n", length + 1);
                world.peer_send(peer, &[&head("200 OK", &fields), sent].concat());
                backend.is_gone = true;
                world.peer_close(peer);
            }
            Deed::CutChunked => {
                let mut bytes = head("200 OK", "Transfer-Encoding: chunked\r\n");
                if !is_head {
                    bytes.extend_from_slice(&chunked(&whole, 700, false));
                }
                world.peer_send(peer, &bytes);
                backend.is_gone = true;
                world.peer_close(peer);
            }
            Deed::AnswerAndClose => {
                let fields = format!("Connection: close\r\nContent-Length: {length}\r\n");
                world.peer_send(peer, &[&head("200 OK", &fields), sent].concat());
                backend.is_gone = true;
                world.peer_close(peer);
            }
        }
    }

    fn judge_clients(&self) {
        let world = self.rig.net.world();
        for client in &self.clients {
            let ended = world.peer_saw_end(client.peer) && !world.peer_saw_reset(client.peer);
            let received = world.peer_received(client.peer);
            let answers = answers(client, received, ended);
            for (request, answer) in client.requests.iter().zip(&answers) {
                judge(request, answer);
            }
            if client.ends && !client.has_left && world.was_accepted(client.peer) {
                Self::judge_ended(client, &answers);
            }
        }
    }

    /// Who has ended its direction still gets its answers, as far as there are any to be had.
    fn judge_ended(client: &Client, answers: &[Message]) {
        let count = answers.iter().filter(|answer| answer.is_whole).count();
        let Some(missed) = client.requests.get(count) else {
            return;
        };
        let asked = &client.requests[..count];
        let is_excused = asked.iter().chain([missed]).any(|it| !it.deed.is_benign())
            || answers.iter().any(|answer| answer.field("x-id").is_none());
        assert!(is_excused, "/{} was not answered behind an end", missed.id);
    }

    /// The mark of a layer's end is bytes: where it comes after the other side has closed, it is
    /// answered by a reset, and what was on its way is lost.
    fn is_reset_by_mark(&self, peer: PeerId) -> bool {
        let world = self.rig.net.world();
        world.has_layer() && world.peer_saw_reset(peer)
    }

    /// A request that was answered early may be cut only by its client.
    fn judge_cut(&self, backend: &Backend) {
        let Some(id) = backend.answered_early else {
            return;
        };
        let mut clients = self.clients.iter();
        let by = clients.find(|client| client.requests.iter().any(|request| request.id == id));
        let has_left = by.is_some_and(|client| client.has_left);
        assert!(has_left, "/{id} was cut behind its answer");
    }
}

fn check_body(id: u64, message: &Message) {
    let length = message
        .field("x-length")
        .map_or(0, |text| text.parse().expect("a number"));
    assert_eq!(
        message.body,
        body(id, length),
        "the body of {}",
        message.start
    );
}

/// The final answers that a client has received, in order, the last perhaps in part.
fn answers(client: &Client, received: &[u8], ended: bool) -> Vec<Message> {
    let mut answers: Vec<Message> = Vec::new();
    let mut at = 0;
    while answers.len() < client.requests.len() {
        let request = &client.requests[answers.len()];
        let rest = &received[at..];
        let is_bodiless = request.method == "HEAD"
            || [&b"HTTP/1.1 1"[..], b"HTTP/1.1 204"]
                .iter()
                .any(|start| rest.starts_with(start));
        let Some(answer) = read(rest, is_bodiless, Otherwise::Close { ended }) else {
            break;
        };
        at += answer.used;
        if answer.status() < 200 {
            assert!(!client.is_old, "an interim response to HTTP/1.0");
            continue;
        }
        let is_whole = answer.is_whole;
        answers.push(answer);
        if !is_whole {
            break;
        }
    }
    answers
}

/// What a client was told must be what the origin said to that very request, or weir's own word.
fn judge(request: &Request, answer: &Message) {
    let status = answer.status();
    let Some(id) = answer.field("x-id") else {
        assert!(
            matches!(status, 400 | 408 | 413 | 502 | 503 | 504),
            "{status} without an origin"
        );
        return;
    };
    assert_eq!(id, request.id.to_string(), "an answer to another request");
    let whole = body(request.id + 7, request.answer_length);
    assert!(
        whole.starts_with(&answer.body),
        "another body for {}",
        request.id
    );
    let is_cut = matches!(request.deed, Deed::CutLength | Deed::CutChunked);
    if !answer.is_whole || request.method == "HEAD" {
        return;
    }
    assert!(
        !is_cut,
        "a body that was cut is taken for whole: {}",
        request.id
    );
    let expected = if status == 204 { 0 } else { whole.len() };
    assert_eq!(answer.body.len(), expected, "the body of {}", request.id);
}
