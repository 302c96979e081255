//! What came of a signal, told to whoever sent it with `weir -s`.

use log::debug;

use crate::sys::answer;

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

    /// Understands what [`tell`] has sent.
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

/// Tells the sender of a signal, if it wants to know: `kill` does not wait for it.
pub(crate) fn tell(sender: u32, outcome: &Outcome) {
    if sender == 0 {
        return;
    }
    if let Err(error) = answer::tell(sender, &outcome.encode()) {
        debug!("process {sender} does not wait for a verdict: {error}");
    }
}
