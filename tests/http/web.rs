//! HTTP backends that a test scripts by requests, not by connections.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::harness::{Origin, Peer};
use super::wire::{Conn, Message};

/// What a backend does with a request.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Sends these bytes and waits for the next request.
    Send(Vec<u8>),
    /// Sends these bytes and closes.
    Close(Vec<u8>),
    /// Resets the connection.
    Reset,
}

/// A backend. It stops when dropped.
pub(crate) struct Web {
    origin: Origin,
    facts: Arc<Facts>,
}

#[derive(Default)]
struct Facts {
    requests: Mutex<Vec<Message>>,
    connections: AtomicUsize,
}

/// Also told how many requests came before on the same connection.
type Script = Box<dyn Fn(&Message, usize) -> Answer + Send + Sync>;

impl Web {
    /// Answers each request as `script` says.
    pub(crate) fn new(script: impl Fn(&Message) -> Answer + Send + Sync + 'static) -> Self {
        Self::by_turn(move |request, _| script(request))
    }

    /// Answers each request as `script` says, which also hears how many came before it on the
    /// same connection.
    pub(crate) fn by_turn(
        script: impl Fn(&Message, usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let facts = Arc::new(Facts::default());
        let shared = Arc::clone(&facts);
        let script: Script = Box::new(script);
        let origin = Origin::new(move |peer| {
            shared.serve(peer, &script);
            Ok(())
        });
        Self { origin, facts }
    }

    /// Answers each request with its name.
    pub(crate) fn named(name: &str) -> Self {
        let name = name.to_owned();
        Self::new(move |_| ok(&name))
    }

    /// Answers each request with what it was: the request line and the fields.
    pub(crate) fn mirror() -> Self {
        Self::new(|request| {
            let mut text = request.head.start.clone();
            for line in &request.head.lines {
                text.push(b'\n');
                text.extend_from_slice(line);
            }
            ok(&String::from_utf8_lossy(&text))
        })
    }

    /// Requests so far, in the order of their arrival.
    pub(crate) fn requests(&self) -> Vec<Message> {
        self.facts
            .requests
            .lock()
            .expect("no holder panics")
            .clone()
    }

    /// How many requests came.
    pub(crate) fn count(&self) -> usize {
        self.facts.requests.lock().expect("no holder panics").len()
    }

    /// How many connections carried a request.
    pub(crate) fn connections(&self) -> usize {
        self.facts.connections.load(Ordering::SeqCst)
    }
}

impl Deref for Web {
    type Target = Origin;

    fn deref(&self) -> &Origin {
        &self.origin
    }
}

impl Facts {
    fn serve(&self, peer: &Peer, script: &Script) {
        let mut conn = Conn::new(peer.share());
        let mut turn = 0;
        // Where a message is due and none comes, the connection has ended.
        while let Ok(request) = conn.message() {
            if turn == 0 {
                self.connections.fetch_add(1, Ordering::SeqCst);
            }
            let answer = script(&request, turn);
            turn += 1;
            self.requests
                .lock()
                .expect("no holder panics")
                .push(request);
            match answer {
                Answer::Send(bytes) => {
                    if !conn.send(bytes) {
                        return;
                    }
                }
                Answer::Close(bytes) => {
                    conn.send(bytes);
                    return;
                }
                Answer::Reset => return conn.into_peer().reset(),
            }
        }
    }
}

/// 200 with this body.
pub(crate) fn ok(body: &str) -> Answer {
    Answer::Send(response("200 OK", "", body))
}

/// A response with a length.
pub(crate) fn response(status: &str, fields: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {length}\r\n\r\n{body}").into_bytes()
}

/// The addresses of some backends, for a configuration.
pub(crate) fn addresses<'a>(backends: impl IntoIterator<Item = &'a Web>) -> Vec<SocketAddr> {
    backends.into_iter().map(|web| web.address()).collect()
}
