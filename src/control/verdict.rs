//! Orders given with `weir -s`, and what came of them, told to whoever gave them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use log::{debug, info, warn};

use crate::admin::errand::Ticket;
use crate::cli::Order;
use crate::config::problem::Problem;
use crate::core::text::plural;
use crate::sys::order_reply::{Arrived, Asker as Sender, MESSAGE_BYTES_MAX, OrderSocket};

/// Who waits for a verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// Who has sent an order.
    Sender(Sender),
    /// A caller at the admin door.
    Caller(Ticket),
}

/// Those of them whom another program can tell in the place of this one.
pub(crate) fn senders(askers: &[Asker]) -> Vec<Sender> {
    let senders = askers.iter().filter_map(|asker| match asker {
        Asker::Sender(sender) => Some(sender.clone()),
        Asker::Caller(_) => None,
    });
    senders.collect()
}

/// What came of it, with a line that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was done.
    Done(String),
    /// It was not, or not wholly.
    Refused(String),
}

const DONE: u8 = b'+';
const REFUSED: u8 = b'-';

impl Outcome {
    fn encode(&self) -> Vec<u8> {
        let (mark, line) = match self {
            Self::Done(line) => (DONE, line),
            Self::Refused(line) => (REFUSED, line),
        };
        [&[mark], line.as_bytes()].concat()
    }

    /// Understands what [`Inbox::tell`] has sent.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&mark, line) = bytes.split_first()?;
        let line = String::from_utf8_lossy(line).into_owned();
        match mark {
            DONE => Some(Self::Done(line)),
            REFUSED => Some(Self::Refused(line)),
            _ => None,
        }
    }
}

/// How many problems there are.
pub(crate) fn found(problems: &[Problem]) -> String {
    let count = problems.len();
    format!("{count} problem{} found", plural(count == 1))
}

/// A verdict with what there is to say besides, a line each, as far as a reply has room.
pub(crate) fn with_lines(verdict: &str, lines: &[String]) -> String {
    with_more(verdict, "\n", lines, TEXT_BYTES_MAX, " more are in the log")
}

/// A verdict with notes on single workers in its line, which leave room for lines.
pub(crate) fn with_notes(verdict: &str, notes: &[String]) -> String {
    with_more(verdict, "; ", notes, TEXT_BYTES_MAX / 2, " more like these")
}

/// A text with more of it, as far as so many bytes have room, and how many are left out.
fn with_more(text: &str, before: &str, more: &[String], bytes_max: usize, rest: &str) -> String {
    let mut text = text.to_owned();
    for (index, one) in more.iter().enumerate() {
        if text.len() + before.len() + one.len() > bytes_max {
            return text + before + &(more.len() - index).to_string() + rest;
        }
        text.push_str(before);
        text.push_str(one);
    }
    text
}

/// Leaves room in a reply for what stands around the text.
const TEXT_BYTES_MAX: usize = MESSAGE_BYTES_MAX - 256;

/// Messages that are looked at before everything else has its turn. Anyone on this machine may
/// send some.
const MESSAGES_A_TURN_MAX: usize = 8;

/// Where orders arrive that want a verdict. A signal wants none.
#[derive(Debug)]
pub(crate) struct Inbox {
    socket: Option<OrderSocket>,
    /// Whether the log says already that others try.
    has_warned: bool,
}

impl Inbox {
    /// Takes orders from now on. Without them weir serves as well.
    pub(crate) fn open() -> Self {
        Self::with(match OrderSocket::open(std::process::id()) {
            Ok(socket) => Some(socket),
            Err(error) => {
                warn!("orders with `weir -s` cannot be taken, only signals: {error}");
                None
            }
        })
    }

    /// That of the program that this process was before: orders may wait in it.
    pub(crate) fn inherited(fd: OwnedFd) -> Self {
        Self::with(Some(fd.into()))
    }

    fn with(socket: Option<OrderSocket>) -> Self {
        Self {
            socket,
            has_warned: false,
        }
    }

    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    /// Orders that wait and are to be carried out here, and who waits for each verdict. When
    /// more may wait, `come_back` is called: their arrival was told of already.
    pub(crate) fn take(&mut self, come_back: impl FnOnce()) -> Vec<(Order, Asker)> {
        let mut orders = Vec::new();
        for _ in 0..MESSAGES_A_TURN_MAX {
            let Some(arrived) = self.socket.as_ref().and_then(OrderSocket::take) else {
                return orders;
            };
            orders.extend(self.understand(arrived));
        }
        come_back();
        orders
    }

    /// The order in a message. Whoever sent something else is told.
    fn understand(&mut self, arrived: Arrived) -> Option<(Order, Asker)> {
        // Who has no name can have no verdict, and is none of our senders.
        let asker = Asker::Sender(arrived.asker?);
        let reason = if arrived.is_permitted {
            match Order::from_word(&String::from_utf8_lossy(&arrived.bytes)) {
                Some(order) => {
                    info!("order: {}", order.word());
                    return Some((order, asker));
                }
                None => "that is no order known here",
            }
        } else {
            if !self.has_warned {
                self.has_warned = true;
                warn!("an order of another user was refused; no more of these will be logged");
            }
            "only root and the user that weir runs as may give orders"
        };
        self.tell(&[asker], &Outcome::Refused(reason.to_owned()));
        None
    }

    /// Tells those who have sent an order and wait for it.
    pub(crate) fn tell(&self, askers: &[Asker], outcome: &Outcome) {
        let Some(socket) = &self.socket else { return };
        let line = outcome.encode();
        for sender in senders(askers) {
            if let Err(error) = socket.tell(&sender, &line) {
                debug!("a verdict is not waited for: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use super::*;

    #[test]
    fn a_verdict_has_as_many_lines_as_have_room() {
        let problem = |number: usize| Problem {
            file: "f".to_owned(),
            at: None,
            warning: false,
            message: format!("{number}: {}", "x".repeat(90)),
        };
        let problems: Vec<Problem> = (0..100).map(problem).collect();
        assert_eq!(found(&problems[..1]), "1 problem found");
        assert_eq!(found(&problems), "100 problems found");
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(with_lines("bad", &[]), "bad");
        let few = with_lines("bad", &lines[..2]);
        assert_eq!(few.lines().count(), 3, "{few}");
        assert!(few.contains("\nf: 1: xx"), "{few}");
        let many = with_lines("bad", &lines);
        assert!(many.starts_with("bad\nf: 0: "), "{many}");
        let shown = many.lines().count() - 2;
        let more = format!("\n{} more are in the log", 100 - shown);
        assert!(many.ends_with(&more), "{many}");
        assert!(many.len() < MESSAGE_BYTES_MAX, "{}", many.len());
    }

    #[test]
    fn notes_on_many_workers_leave_room_for_lines_and_are_counted() {
        let notes: Vec<String> = (0..247).map(|n| format!("worker {n} is stopped")).collect();
        assert_eq!(with_notes("done", &notes[..1]), "done; worker 0 is stopped");
        let noted = with_notes("done", &notes);
        let shown = noted.matches("is stopped").count();
        let rest = format!("; {} more like these", 247 - shown);
        assert!(noted.ends_with(&rest), "{noted}");
        let warnings = vec!["f:1:1: warning: ".to_owned() + &"x".repeat(80); 300];
        let all = with_lines(&noted, &warnings);
        assert!(all.starts_with(&noted), "{all}");
        assert!(all.matches("warning").count() > 10, "{all}");
        assert!(all.ends_with(" more are in the log"), "{all}");
        assert!(all.len() < MESSAGE_BYTES_MAX, "{}", all.len());
    }

    #[test]
    fn what_fills_the_inbox_is_taken_out_in_parts() {
        // Of no process, as ids do not go so far, and of no other run of this test.
        let process = u32::MAX - std::process::id();
        let socket = OrderSocket::open(process).expect("nobody else has it");
        let mut inbox = Inbox::with(Some(socket));
        let address = SocketAddr::from_abstract_name(format!("weir-orders-{process}"));
        let nameless = UnixDatagram::unbound().expect("a socket");
        nameless.set_nonblocking(true).expect("ours");
        let address = address.expect("it is short");
        let mut waiting = 0;
        while waiting < 1000 && nameless.send_to_addr(b"reload", &address).is_ok() {
            waiting += 1;
        }
        let mut turns = 1;
        loop {
            let mut is_more = false;
            assert_eq!(inbox.take(|| is_more = true), []);
            if !is_more {
                break;
            }
            turns += 1;
        }
        assert!(waiting > MESSAGES_A_TURN_MAX, "{waiting} have room");
        assert_eq!(turns, 1 + waiting / MESSAGES_A_TURN_MAX);
    }
}
