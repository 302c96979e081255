//! Orders given with `weir -s`, and what came of them, told to whoever gave them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use log::{debug, warn};

use crate::cli::Order;
use crate::sys::answer::OrderSocket;

pub(crate) use crate::sys::answer::Asker;

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

/// Where orders arrive that want a verdict. A signal wants none.
#[derive(Debug)]
pub(crate) struct Inbox(Option<OrderSocket>);

impl Inbox {
    /// Takes orders from now on. Without them weir serves as well.
    pub(crate) fn open() -> Self {
        Self(match OrderSocket::open() {
            Ok(socket) => Some(socket),
            Err(error) => {
                warn!("orders with `weir -s` cannot be taken, only signals: {error}");
                None
            }
        })
    }

    /// That of the program that this process was before: orders may wait in it.
    pub(crate) fn inherited(fd: OwnedFd) -> Self {
        Self(Some(fd.into()))
    }

    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_ref().map(AsFd::as_fd)
    }

    /// The next order that is to be carried out here, and who waits for the verdict.
    pub(crate) fn next(&self) -> Option<(Order, Asker)> {
        loop {
            let arrived = self.0.as_ref()?.take()?;
            let asker = arrived.asker;
            let reason = if arrived.is_permitted {
                match Order::from_word(&String::from_utf8_lossy(&arrived.bytes)) {
                    Some(order) => return Some((order, asker)),
                    None => "that is no order known here",
                }
            } else {
                warn!("an order of another user was refused");
                "only root and the user that weir runs as may give orders"
            };
            self.tell(&[asker], &Outcome::Refused(reason.to_owned()));
        }
    }

    /// Tells all who wait for it.
    pub(crate) fn tell(&self, askers: &[Asker], outcome: &Outcome) {
        let Some(socket) = &self.0 else { return };
        let line = outcome.encode();
        for asker in askers {
            if let Err(error) = socket.tell(asker, &line) {
                debug!("a verdict is not waited for: {error}");
            }
        }
    }
}
