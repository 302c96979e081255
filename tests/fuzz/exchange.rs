//! A client and a backend that say anything at all, to the real worker in a fake world: what
//! goes on, in either direction, has to be one sequence of messages, whoever reads it.
//!
//! Two readers judge it: the reference reader of [`checks`](crate::checks) and httparse alone.

use weir::core::http::body::Framing;

use crate::checks::{Decoded, Reading, UNFINISHED, decode, decode_response};
use crate::net::{PeerId, Settings};
use crate::rig::{self, Rig};

/// Ends the client's bytes in an input.
const SEPARATOR: &[u8] = b"\n----\n";
/// Longest stream that is played, in bytes.
const STREAM_BYTES_MAX: usize = 4096;
/// Most pieces of a stream, so that one input takes a bounded time.
const PIECES_MAX: usize = 40;

/// What the client saw of the end of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// None yet.
    Open,
    /// The end of the stream.
    Clean,
    /// A reset.
    Reset,
}

/// What two streams led to.
#[derive(Debug)]
pub(crate) struct Played {
    /// What each connection of the backend received.
    pub(crate) forwarded: Vec<Vec<u8>>,
    /// How many final responses the backend had sent on each.
    answers: Vec<usize>,
    /// What the client received.
    pub(crate) returned: Vec<u8>,
    pub(crate) ended: Ended,
}

/// How two streams are played.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Script<'a> {
    pub(crate) client: &'a [u8],
    pub(crate) backend: &'a [u8],
    /// Where the streams are cut; zero leaves them whole.
    pub(crate) split: u8,
    /// The two streams alternate; otherwise the client's comes first.
    pub(crate) alternates: bool,
    pub(crate) client_ends: bool,
    pub(crate) backend_ends: bool,
}

/// The pieces of a stream, of changing lengths.
fn pieces(bytes: &[u8], split: u8) -> Vec<&[u8]> {
    let mut rest = bytes;
    let mut found = Vec::new();
    let mut step = usize::from(split);
    while !rest.is_empty() {
        step = (step * 5 + 3) % 61;
        let whole = split == 0 || found.len() + 1 == PIECES_MAX;
        let length = if whole { rest.len() } else { step + 1 };
        let (piece, more) = rest.split_at(length.min(rest.len()));
        found.push(piece);
        rest = more;
    }
    found
}

/// Plays two streams; the backend speaks on the latest of its connections.
pub(crate) fn play(script: Script<'_>) -> Played {
    let settings = Settings {
        sleep_ms_max: Some(0),
        ..Settings::plain()
    };
    let text = rig::config_text(&[1], "mode: http\npassive: {failures: 0}");
    let mut rig = Rig::with(settings, &text);
    let client = rig.client();
    rig.settle();
    let mut backends: Vec<(PeerId, Vec<u8>)> = Vec::new();
    let mut asking = pieces(script.client, script.split).into_iter();
    let mut answering = pieces(script.backend, script.split).into_iter().peekable();
    loop {
        let asked = asking.next();
        if let Some(piece) = asked {
            rig.world().peer_send(client, piece);
            rig.settle();
        }
        backends.extend(rig.accepted(0).into_iter().map(|peer| (peer, Vec::new())));
        let may_answer = script.alternates || asked.is_none();
        let answered = match backends.last_mut() {
            Some((peer, sent)) if may_answer => answering.next().map(|piece| {
                sent.extend_from_slice(piece);
                rig.world().peer_send(*peer, piece);
            }),
            Some(_) | None => None,
        };
        rig.settle();
        if asked.is_none() && answered.is_none() {
            break;
        }
    }
    if let (true, Some((peer, _))) = (script.backend_ends, backends.last()) {
        rig.world().peer_close_write(*peer);
        rig.settle();
    }
    if script.client_ends {
        rig.world().peer_close_write(client);
        rig.settle();
    }
    backends.extend(rig.accepted(0).into_iter().map(|peer| (peer, Vec::new())));
    let world = rig.world();
    let forwarded: Vec<Vec<u8>> = backends
        .iter()
        .map(|(peer, _)| world.peer_received(*peer).to_vec())
        .collect();
    Played {
        answers: backends
            .iter()
            .zip(&forwarded)
            .map(|((_, sent), asked)| count_answers(sent, asked))
            .collect(),
        forwarded,
        returned: world.peer_received(client).to_vec(),
        ended: match world.peer_saw_end(client) {
            _ if world.peer_saw_reset(client) => Ended::Reset,
            true => Ended::Clean,
            false => Ended::Open,
        },
    }
}

/// A message as far as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) start: Vec<u8>,
    pub(crate) fields: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    /// Its end was seen; never of a body that ends with the connection.
    pub(crate) is_whole: bool,
}

impl Message {
    pub(crate) fn status(&self) -> u16 {
        let text = self.start.get(9..12).unwrap_or_default();
        let text = std::str::from_utf8(text).unwrap_or_default();
        text.parse().unwrap_or(0)
    }

    fn method(&self) -> &[u8] {
        let mut words = self.start.split(|&byte| byte == b' ');
        words.next().unwrap_or_default()
    }

    fn has(&self, name: &str, value: &str) -> bool {
        self.fields
            .iter()
            .any(|(known, found)| known == name.as_bytes() && found == value.as_bytes())
    }
}

/// Who wrote what is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writer {
    /// weir or a client, in the one form.
    Plain,
    /// A backend, perhaps in an odd form.
    Backend,
}

/// Reads one message: none while its head is incomplete.
fn read_one(
    bytes: &[u8],
    writer: Writer,
    framing: impl FnOnce(&Reading) -> Result<Framing, &'static str>,
) -> Result<Option<(Message, usize)>, &'static str> {
    let head = match writer {
        Writer::Plain if !bytes.windows(4).any(|four| four == b"\r\n\r\n") => return Ok(None),
        Writer::Plain => Reading::of(bytes)?,
        Writer::Backend => match Reading::of_response(bytes) {
            Err(UNFINISHED) => return Ok(None),
            read => read?,
        },
    };
    let rest = &bytes[head.length..];
    let (body, used, is_whole) = match framing(&head)? {
        Framing::None => (Vec::new(), 0, true),
        Framing::UntilClose => (rest.to_vec(), rest.len(), false),
        Framing::Length(length) => {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let used = length.min(rest.len());
            (rest[..used].to_vec(), used, used == length)
        }
        Framing::Chunked => match decode_of(writer, rest) {
            Decoded::Whole(data, _, used) => (data, used, true),
            Decoded::Partial => (data_of(writer, rest), rest.len(), false),
            Decoded::Bad => return Err("bad chunks"),
        },
    };
    let message = Message {
        start: head.start,
        fields: head.fields,
        body,
        is_whole,
    };
    Ok(Some((message, head.length + used)))
}

fn decode_of(writer: Writer, bytes: &[u8]) -> Decoded {
    match writer {
        Writer::Plain => decode(bytes),
        Writer::Backend => decode_response(bytes),
    }
}

/// The data of whole chunks of a body that is incomplete.
fn data_of(writer: Writer, bytes: &[u8]) -> Vec<u8> {
    let mut best = Vec::new();
    let is_border = |cut: &usize| *cut == 0 || bytes[..*cut].ends_with(b"\n");
    for cut in (0..=bytes.len()).filter(is_border) {
        let ended = [&bytes[..cut], b"0\r\n\r\n"].concat();
        if let Decoded::Whole(data, _, used) = decode_of(writer, &ended)
            && used == ended.len()
        {
            best = data;
        }
    }
    best
}

/// Reads requests until one is incomplete.
pub(crate) fn requests(bytes: &[u8]) -> Result<Vec<Message>, &'static str> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some((message, used)) = read_one(&bytes[at..], Writer::Plain, Reading::framing)? {
        at += used;
        let is_whole = message.is_whole;
        found.push(message);
        if !is_whole {
            break;
        }
    }
    Ok(found)
}

/// Reads the responses to these requests, interim ones included, as far as they can be read; and
/// whether that is all.
pub(crate) fn responses(bytes: &[u8], asked: &[Message]) -> (Vec<Message>, bool) {
    responses_of(Writer::Plain, bytes, asked)
}

fn responses_of(writer: Writer, bytes: &[u8], asked: &[Message]) -> (Vec<Message>, bool) {
    let mut found = Vec::new();
    let (mut at, mut answered) = (0, 0);
    loop {
        let is_head = asked
            .get(answered)
            .is_some_and(|one| one.method() == b"HEAD");
        let framing = |head: &Reading| {
            let status = head.start.get(9..12).unwrap_or_default();
            let is_bodiless =
                is_head || matches!(status, b"204" | b"304") || status.starts_with(b"1");
            match head.framing()? {
                _ if is_bodiless => Ok(Framing::None),
                Framing::None => Ok(Framing::UntilClose),
                framing @ (Framing::Length(_) | Framing::Chunked | Framing::UntilClose) => {
                    Ok(framing)
                }
            }
        };
        let (message, used) = match read_one(&bytes[at..], writer, framing) {
            Ok(Some(one)) => one,
            Ok(None) => return (found, true),
            Err(_) => return (found, false),
        };
        at += used;
        answered += usize::from(message.status() >= 200);
        let is_whole = message.is_whole;
        found.push(message);
        if !is_whole {
            return (found, true);
        }
    }
}

/// How many final responses these bytes begin; any number where they are odd, since weir may take
/// what is refused here.
fn count_answers(sent: &[u8], asked: &[u8]) -> usize {
    let asked = requests(asked).unwrap_or_default();
    let (found, is_all) = responses_of(Writer::Backend, sent, &asked);
    if !is_all {
        return usize::MAX - 1;
    }
    found.iter().filter(|one| one.status() >= 200).count()
}

/// The heads of a sequence of messages, read by httparse: where each begins its fields.
fn check_with_httparse(bytes: &[u8], messages: &[Message], is_request: bool) {
    let mut at = 0;
    for message in messages {
        let mut fields = [httparse::EMPTY_HEADER; 128];
        let start = bytes[at..]
            .windows(message.start.len())
            .position(|window| window == message.start)
            .expect("it was read there");
        at += start;
        let (length, names): (usize, Vec<String>) = if is_request {
            let mut head = httparse::Request::new(&mut fields);
            let parsed = head.parse(&bytes[at..]).expect("httparse refuses it");
            assert_eq!(head.method.map(str::as_bytes), Some(message.method()));
            (parsed.unwrap(), names(head.headers))
        } else {
            let mut head = httparse::Response::new(&mut fields);
            let parsed = head.parse(&bytes[at..]).expect("httparse refuses it");
            assert_eq!(head.code, Some(message.status()));
            (parsed.unwrap(), names(head.headers))
        };
        let expected: Vec<String> = message
            .fields
            .iter()
            .map(|(name, _)| String::from_utf8_lossy(name).into_owned())
            .collect();
        assert_eq!(names, expected);
        // A body may hold what looks like the next message.
        at += length + message.body.len();
    }
}

fn names(fields: &[httparse::Header<'_>]) -> Vec<String> {
    fields
        .iter()
        .map(|field| field.name.to_ascii_lowercase())
        .collect()
}

/// What the client asked for, as far as the reference reader can tell: its framing may be said
/// in more ways than weir's is.
fn intended(mut bytes: &[u8]) -> (Vec<Message>, bool) {
    let framing = |head: &Reading| {
        let lengths = head.all("content-length");
        let same = |value: &&[u8]| {
            let mut parts = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
            parts.all(|part| Some(part) == first_part(&lengths))
        };
        let codings = head.all("transfer-encoding");
        match (lengths.as_slice(), codings.as_slice()) {
            ([_, ..], []) if lengths.iter().all(same) => {
                let text = std::str::from_utf8(first_part(&lengths).unwrap_or_default());
                let number = text.ok().and_then(|text| text.parse().ok());
                number.map(Framing::Length).ok_or("length is no number")
            }
            ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
            _ => head.framing(),
        }
    };
    let mut found = Vec::new();
    loop {
        let blank = bytes.iter().take_while(|byte| b"\r\n".contains(byte));
        bytes = &bytes[blank.count()..];
        match read_one(bytes, Writer::Plain, framing) {
            Ok(Some((message, used))) => {
                let is_whole = message.is_whole;
                found.push(message);
                bytes = &bytes[used..];
                if !is_whole {
                    return (found, true);
                }
            }
            Ok(None) => return (found, true),
            Err(_) => return (found, false),
        }
    }
}

fn first_part<'a>(lengths: &[&'a [u8]]) -> Option<&'a [u8]> {
    let first = lengths.first()?.split(|&byte| byte == b',').next();
    first.map(<[u8]>::trim_ascii)
}

/// Any bytes as two streams: a split, a letter of flags, what the client says, the separator,
/// what the backend says.
pub(crate) fn exchange(bytes: &[u8]) {
    let [split, flags, streams @ ..] = bytes else {
        return;
    };
    let at = streams
        .windows(SEPARATOR.len())
        .position(|window| window == SEPARATOR);
    let (client, backend) = match at {
        Some(at) => (&streams[..at], &streams[at + SEPARATOR.len()..]),
        None => (streams, &[][..]),
    };
    check(Script {
        client: &client[..client.len().min(STREAM_BYTES_MAX)],
        backend: &backend[..backend.len().min(STREAM_BYTES_MAX)],
        split: *split,
        alternates: flags & 1 != 0,
        client_ends: flags & 2 != 0,
        backend_ends: flags & 4 != 0,
    });
}

/// Plays a script and judges both directions.
pub(crate) fn check(script: Script<'_>) -> Played {
    let played = play(script);
    let (asked, is_readable) = intended(script.client);
    // What follows a change of protocols is not HTTP.
    if contains(&played.returned, b"HTTP/1.1 101 ") {
        return played;
    }
    let mut next = 0;
    for (forwarded, answers) in played.forwarded.iter().zip(&played.answers) {
        let found = requests(forwarded).expect("weir forwards what is ambiguous");
        check_with_httparse(forwarded, &found, true);
        assert!(
            found.len() <= answers + 1,
            "a request was sent before the response to the one before it"
        );
        for request in &found {
            assert!(request.start.is_ascii(), "{:?} goes on raw", request.start);
            // A request that was sent again is the same as the one before.
            let place = (next.max(1) - 1..asked.len()).find(|&at| is_same(request, &asked[at]));
            match place {
                Some(at) => next = at + 1,
                None if !is_readable => {}
                None => panic!("{request:?} was not asked for; these were: {asked:?}"),
            }
        }
    }
    check_returned(script, &played, &asked, is_readable);
    played
}

fn is_same(forwarded: &Message, asked: &Message) -> bool {
    forwarded.method() == asked.method() && has_same_body(forwarded, asked)
}

fn has_same_body(forwarded: &Message, asked: &Message) -> bool {
    if forwarded.is_whole {
        return asked.is_whole && forwarded.body == asked.body;
    }
    // Of a chunk that has not ended nothing is counted, here or there.
    forwarded.body.starts_with(&asked.body) || asked.body.starts_with(&forwarded.body)
}

fn check_returned(script: Script<'_>, played: &Played, asked: &[Message], is_readable: bool) {
    let is_old = |one: &Message| one.start.ends_with(b"HTTP/1.0");
    let (found, is_all) = responses(&played.returned, asked);
    assert!(is_all || !is_readable, "weir returns what is ambiguous");
    check_with_httparse(&played.returned, &found, false);
    let finals: Vec<&Message> = found.iter().filter(|one| one.status() >= 200).collect();
    if is_readable {
        // One more for a head that is too long or not whole.
        assert!(
            finals.len() <= asked.len() + 1,
            "more answers than requests"
        );
    }
    let last = finals.len().saturating_sub(1);
    for (at, response) in finals.iter().enumerate() {
        assert!(
            at == last || !response.has("connection", "close"),
            "something follows the last response"
        );
        let has_framing = response.has("transfer-encoding", "chunked")
            || response
                .fields
                .iter()
                .any(|(name, _)| name == b"content-length");
        if !has_framing && !response.is_whole {
            assert!(asked.get(at).is_none_or(is_old), "a body has no end");
        }
    }
    // Which response answers HEAD cannot be told from the backend's bytes alone, nor can where a
    // second connection begins.
    let has_head = asked.iter().any(|one| one.method() == b"HEAD");
    if !has_head && played.forwarded.len() < 2 {
        check_origin(script, &finals);
    }
}

/// What is not weir's own came from the backend, in the order in which it came. weir signs its
/// answers, so a backend that signs like weir cannot be judged.
fn check_origin(script: Script<'_>, finals: &[&Message]) {
    let (mut sent, is_all) = responses_of(Writer::Backend, script.backend, &[]);
    sent.retain(|one| one.status() >= 200);
    let is_own = |one: &Message| one.has("server", "weir");
    if sent.iter().any(is_own) {
        return;
    }
    let mut sent = sent.iter();
    for response in finals {
        let is_body =
            |one: &Message| one.body.starts_with(&response.body) || has_same_body(response, one);
        let is_it = |one: &Message| one.status() == response.status() && is_body(one);
        assert!(
            is_own(response) || !is_all || sent.any(is_it),
            "{response:?} did not come from the backend"
        );
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes
        .windows(part.len().max(1))
        .any(|window| window == part)
}
