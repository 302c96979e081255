//! `weir -s`: gives an order to the weir of a pid file, and waits for what comes of it.
//!
//! Orders go in by the admin door, as those of `weir ctl` do. A weir of before has none, and others
//! may have it elsewhere: they take orders at the socket that is named after their process. What
//! comes of an upgrade another program tells, which has no caller at its door: that verdict comes
//! back as those to orders at the socket do.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use crate::cli::Order;
use crate::control::pid_file;
use crate::control::verdict::Outcome;
use crate::control::{EXIT_OK, doors, orphans};
use crate::sys::child::Handle;
use crate::sys::order_reply::{Awaiting, OrderReply};

/// It was refused, or nobody can tell.
pub(super) const EXIT_REFUSED: u8 = 1;
/// No weir runs there.
pub(super) const EXIT_NOT_RUNNING: u8 = 3;

/// How long a verdict may take.
const VERDICT_MAX: Duration = Duration::from_secs(90);
/// How long a process may take to be gone whose door has closed.
const GONE_MAX: Duration = Duration::from_secs(1);

/// What came of an order at an admin door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AtDoor {
    /// It was done, with a line that says so.
    Done(String),
    /// It was not, and why.
    Refused(String),
    /// The answer has not come in time.
    Late,
    /// There is no door of that process, or it has closed.
    Shut,
}

/// Gives the order of that word to a process by the socket at a path, and waits so long.
pub type Ask = fn(word: &str, socket: &Path, pid: u32, limit: Duration) -> AtDoor;

/// Carries out an order. The exit status, and a line to print.
#[must_use]
pub fn send(order: Order, pid_file: &Path, ask: Ask) -> (ExitCode, String) {
    let pid = match pid_file::holder(pid_file) {
        Ok(Some(pid)) => pid,
        Ok(None) => {
            if let Some(answer) = orphans::carry_out(order, pid_file) {
                return answer;
            }
            let line = format!("{}: no weir runs that holds it", pid_file.display());
            return (EXIT_NOT_RUNNING.into(), line);
        }
        Err(error) => {
            let line = format!("{}: cannot tell who holds it: {error}", pid_file.display());
            return (EXIT_REFUSED.into(), line);
        }
    };
    let at_door = by_door(order, pid, pid_file, ask);
    match at_door.map_or_else(|| carry_out(order, pid), Ok) {
        Ok(Outcome::Done(line)) => (EXIT_OK.into(), line),
        Ok(Outcome::Refused(line)) => (EXIT_REFUSED.into(), line),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let line = format!("process {pid} has just ended");
            (EXIT_NOT_RUNNING.into(), line)
        }
        Err(error) => {
            let line = format!("process {pid} cannot be asked: {error}");
            (EXIT_REFUSED.into(), line)
        }
    }
}

/// None where it has to go another way.
fn by_door(order: Order, pid: u32, pid_file: &Path, ask: Ask) -> Option<Outcome> {
    let process = Handle::open(pid).ok()?;
    let door = doors::beside(pid_file);
    if order == Order::Upgrade {
        return upgrade_by_door(&door, pid, ask);
    }
    let at_door = ask(order.word(), &door, pid, VERDICT_MAX);
    let outcome = match at_door {
        // It has begun, and may take as long as the configuration lets sessions.
        AtDoor::Done(_) if is_end(order) && process.wait_end(None).is_ok() => {
            Outcome::Done(ended(pid))
        }
        AtDoor::Done(line) => Outcome::Done(line),
        AtDoor::Refused(line) => Outcome::Refused(line),
        AtDoor::Late => Outcome::Refused(late(pid)),
        AtDoor::Shut if is_end(order) && process.wait_end(Some(GONE_MAX)).ok()? => {
            Outcome::Done(ended(pid))
        }
        AtDoor::Shut => return None,
    };
    Some(outcome)
}

fn upgrade_by_door(door: &Path, pid: u32, ask: Ask) -> Option<Outcome> {
    let awaiting = Awaiting::open(pid).ok()?;
    let word = format!("{}?verdict={}", Order::Upgrade.word(), awaiting.name()?);
    match ask(&word, door, pid, VERDICT_MAX) {
        AtDoor::Done(_) => verdict(Order::Upgrade, pid, &awaiting).ok(),
        AtDoor::Refused(line) => Some(Outcome::Refused(line)),
        AtDoor::Late => Some(Outcome::Refused(late(pid))),
        AtDoor::Shut => None,
    }
}

fn is_end(order: Order) -> bool {
    matches!(order, Order::Quit | Order::Stop)
}

fn ended(pid: u32) -> String {
    format!("process {pid} has ended")
}

fn late(pid: u32) -> String {
    format!("process {pid} has not told the outcome in time")
}

fn carry_out(order: Order, pid: u32) -> io::Result<Outcome> {
    let awaiting = Awaiting::open(pid)?;
    awaiting.ask(order.word().as_bytes())?;
    verdict(order, pid, &awaiting)
}

fn verdict(order: Order, pid: u32, awaiting: &Awaiting) -> io::Result<Outcome> {
    let refused = |line: String| Ok(Outcome::Refused(line));
    match awaiting.wait(VERDICT_MAX)? {
        OrderReply::Bytes(bytes) => match Outcome::decode(&bytes) {
            // It has begun, and may take as long as the configuration lets sessions.
            Some(Outcome::Done(_)) if is_end(order) => {
                awaiting.wait_end()?;
                Ok(Outcome::Done(ended(pid)))
            }
            Some(outcome) => Ok(outcome),
            None => refused(format!("process {pid} answers what is no verdict")),
        },
        OrderReply::Ended if is_end(order) => Ok(Outcome::Done(ended(pid))),
        OrderReply::Ended => refused(ended(pid)),
        OrderReply::Nothing => refused(late(pid)),
    }
}
