//! One caller's side of a connection: bytes in, answers out, without a socket.

use crate::admin::answer::{
    Answer, Body, Flow, HeadForm, LAST_CHUNK, PART_BYTES, Progress, write_chunk,
};
use crate::admin::request::{
    self, BODY_BYTES_MAX, HEAD_BYTES_MAX, Heard, Malformed, Request, Verb,
};
use crate::admin::view::View;
use crate::core::http::head::RequestHead;

/// The most bytes that are kept of what a caller says.
pub(crate) const INPUT_BYTES_MAX: usize = HEAD_BYTES_MAX + BODY_BYTES_MAX;

/// With it a caller goes on to its body (RFC 9110 section 10.1.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What has been said, and what is to be said.
#[derive(Debug, Default)]
pub(crate) struct Conversation {
    input: Vec<u8>,
    output: Vec<u8>,
    /// How much of the output is taken.
    taken: usize,
    flow: Option<Running>,
    phase: Phase,
    /// What has been heard is no whole request.
    is_partial: bool,
    /// Of the request that is being answered.
    is_head: bool,
    keeps_alive: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// A request is to come, or is coming.
    #[default]
    Listening,
    /// It is to be answered.
    Asked,
    /// The answer is under way.
    Answering,
    /// Nothing more is said, once the output is taken.
    Ending,
}

struct Running {
    flow: Box<dyn Flow>,
    /// The outline that it began with: another one would not go on with what was said.
    round: u64,
    chunked: bool,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running")
            .field("chunked", &self.chunked)
            .finish_non_exhaustive()
    }
}

impl Conversation {
    /// How many more bytes it keeps of what the caller says. A request that takes all that there
    /// is is whole, or refused.
    pub(crate) fn room(&self) -> usize {
        INPUT_BYTES_MAX - self.input.len()
    }

    /// Hears what has come, for which there must be room.
    pub(crate) fn hear(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() <= self.room(), "asked before");
        self.input.extend_from_slice(bytes);
        self.is_partial = false;
    }

    /// Whether it cannot go on without hearing more. Requests that came together are answered one
    /// after the other.
    pub(crate) fn needs_more(&self) -> bool {
        self.phase == Phase::Listening && (self.input.is_empty() || self.is_partial)
    }

    /// Whether more may be heard.
    pub(crate) fn listens(&self) -> bool {
        self.phase == Phase::Listening
    }

    /// Whether a request has begun that is not whole.
    pub(crate) fn is_mid_request(&self) -> bool {
        self.phase == Phase::Listening && !self.input.is_empty()
    }

    /// Whether somebody is to answer.
    pub(crate) fn is_asked(&self) -> bool {
        self.phase == Phase::Asked
    }

    /// Whether all was said that is to be said.
    pub(crate) fn is_over(&self) -> bool {
        self.phase == Phase::Ending && self.output().is_empty()
    }

    /// The next request, if it is whole: it must be answered.
    ///
    /// # Errors
    /// What is wrong with it. That must be answered, too.
    pub(crate) fn next_request(
        &mut self,
        head: &mut RequestHead,
    ) -> Result<Option<Request>, Malformed> {
        if self.phase != Phase::Listening || self.input.is_empty() {
            return Ok(None);
        }
        match request::read(head, &self.input) {
            Ok(heard @ (Heard::Part | Heard::Head)) => {
                if heard == Heard::Head && !self.is_partial {
                    self.output.extend_from_slice(CONTINUE);
                }
                self.is_partial = true;
                Ok(None)
            }
            Ok(Heard::Whole(request, length)) => {
                self.input.drain(..length);
                self.phase = Phase::Asked;
                self.keeps_alive = request.keeps_alive;
                self.is_head = request.verb == Verb::Head;
                Ok(Some(request))
            }
            Err(malformed) => {
                self.phase = Phase::Asked;
                self.keeps_alive = false;
                self.is_head = false;
                Err(malformed)
            }
        }
    }

    /// Begins to answer.
    pub(crate) fn answer(&mut self, answer: Answer, view: &View<'_>) {
        let form = HeadForm {
            keeps_alive: self.keeps_alive,
            // Who keeps the connection knows HTTP/1.1.
            chunked: self.keeps_alive,
        };
        answer.write_head(&mut self.output, view.unix_ms / 1000, form);
        self.phase = Phase::Answering;
        match answer.body {
            _ if self.is_head => self.end_answer(),
            Body::Whole(body) => {
                self.output.extend_from_slice(&body);
                self.end_answer();
            }
            Body::Flow(flow) => {
                self.flow = Some(Running {
                    flow,
                    round: view.outline.round,
                    chunked: form.chunked,
                });
            }
        }
    }

    fn end_answer(&mut self) {
        self.flow = None;
        self.phase = match self.keeps_alive {
            true => Phase::Listening,
            false => Phase::Ending,
        };
    }

    /// Makes more of an answer that is under way, while little of it waits to be taken.
    pub(crate) fn go_on(&mut self, view: &View<'_>) {
        let Some(running) = &mut self.flow else {
            return;
        };
        if self.output.len() - self.taken >= PART_BYTES {
            return;
        }
        if running.round != view.outline.round {
            // Without its end, the caller sees that it is not whole.
            self.flow = None;
            self.phase = Phase::Ending;
            return;
        }
        let mut part = Vec::with_capacity(PART_BYTES + PART_BYTES / 4);
        let progress = running.flow.go_on(view, &mut part);
        let chunked = running.chunked;
        match chunked {
            true => write_chunk(&mut self.output, &part),
            false => self.output.extend_from_slice(&part),
        }
        match progress {
            Progress::More => {}
            Progress::Done => {
                if chunked {
                    self.output.extend_from_slice(LAST_CHUNK);
                }
                self.end_answer();
            }
        }
    }

    /// What is to be said now.
    pub(crate) fn output(&self) -> &[u8] {
        &self.output[self.taken..]
    }

    /// So much of it was taken.
    pub(crate) fn take(&mut self, count: usize) {
        self.taken += count;
        if self.taken == self.output.len() {
            self.taken = 0;
            self.output.clear();
            // What waits for the next request needs no room.
            if self.flow.is_none() {
                self.output = Vec::new();
            }
        } else if self.taken >= PART_BYTES {
            // One who takes a part of each answer and asks for more never takes all.
            self.output.drain(..self.taken);
            self.taken = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::view::Seen;
    use crate::board::Board;
    use crate::core::time::Tick;

    /// Never ends.
    struct Endless;

    impl Flow for Endless {
        fn go_on(&mut self, _: &View<'_>, out: &mut Vec<u8>) -> Progress {
            out.resize(PART_BYTES, b'x');
            Progress::More
        }
    }

    #[test]
    fn requests_that_come_together_are_answered_in_turn() {
        let (seen, board) = (Seen::default(), Board::private().expect("memory"));
        let view = seen.view(&board, Tick::default(), 0);
        let mut talk = Conversation::default();
        talk.hear("GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(3).as_bytes());
        talk.hear(b"GET /");
        for _ in 0..3 {
            assert!(!talk.needs_more());
            let request = talk.next_request(&mut RequestHead::default());
            assert_eq!(request.expect("well-formed").expect("whole").path, "/");
            talk.answer(Answer::text(200, "ok"), &view);
        }
        let rest = talk.next_request(&mut RequestHead::default());
        assert_eq!(rest, Ok(None));
        assert!(talk.needs_more());
    }

    #[test]
    fn who_waits_with_a_body_is_told_once_to_go_on() {
        let mut talk = Conversation::default();
        let mut next = |bytes: &[u8]| {
            talk.hear(bytes);
            let request = talk.next_request(&mut RequestHead::default());
            let request = request.expect("well-formed");
            let told = talk.output().to_vec();
            talk.take(told.len());
            (request.is_some(), String::from_utf8(told).expect("text"))
        };
        let head = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n";
        assert_eq!(next(head), (false, String::new()));
        let told = "HTTP/1.1 100 Continue\r\n\r\n".to_owned();
        assert_eq!(next(b"Expect: 100-continue\r\n\r\n"), (false, told));
        assert_eq!(next(b"a"), (false, String::new()));
        assert_eq!(next(b"=b"), (true, String::new()));
    }

    #[test]
    fn who_takes_a_part_of_each_answer_fills_no_memory() {
        let (seen, board) = (Seen::default(), Board::private().expect("memory"));
        let view = seen.view(&board, Tick::default(), 0);
        let mut talk = Conversation::default();
        talk.hear(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        let request = talk.next_request(&mut RequestHead::default());
        assert!(request.expect("well-formed").is_some());
        talk.answer(Answer::flow("text/plain", Endless), &view);
        for _ in 0..1000 {
            talk.go_on(&view);
            assert!(talk.output().len() > PART_BYTES / 2);
            talk.take(PART_BYTES / 2);
            assert!(talk.output.len() <= 3 * PART_BYTES, "{}", talk.output.len());
        }
    }
}
