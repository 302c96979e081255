//! `weir -s`: gives an order to the weir of a pid file, and waits for what comes of it.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use crate::cli::Order;
use crate::control::pid_file;
use crate::control::verdict::Outcome;
use crate::control::{EXIT_OK, orphans};
use crate::sys::order_reply::{Awaiting, OrderReply};

/// It was refused, or nobody can tell.
pub(super) const EXIT_REFUSED: u8 = 1;
/// No weir runs there.
pub(super) const EXIT_NOT_RUNNING: u8 = 3;

/// How long a verdict may take.
const VERDICT_MAX: Duration = Duration::from_secs(90);

/// Carries out an order. The exit status, and a line to print.
#[must_use]
pub fn send(order: Order, pid_file: &Path) -> (ExitCode, String) {
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
    match carry_out(order, pid) {
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

fn carry_out(order: Order, pid: u32) -> io::Result<Outcome> {
    let is_end = matches!(order, Order::Quit | Order::Stop);
    let ended = || format!("process {pid} has ended");
    let refused = |line: String| Ok(Outcome::Refused(line));
    let awaiting = Awaiting::open(pid)?;
    awaiting.ask(order.word().as_bytes())?;
    match awaiting.wait(VERDICT_MAX)? {
        OrderReply::Bytes(bytes) => match Outcome::decode(&bytes) {
            // It has begun, and may take as long as the configuration lets sessions.
            Some(Outcome::Done(_)) if is_end => {
                awaiting.wait_end()?;
                Ok(Outcome::Done(ended()))
            }
            Some(outcome) => Ok(outcome),
            None => refused(format!("process {pid} answers what is no verdict")),
        },
        OrderReply::Ended if is_end => Ok(Outcome::Done(ended())),
        OrderReply::Ended => refused(ended()),
        OrderReply::Nothing => refused(format!("process {pid} has not told the outcome in time")),
    }
}
