//! `weir -s`: gives an order to the weir of a pid file, and waits for what comes of it.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use crate::cli::Order;
use crate::process::pid_file;
use crate::process::verdict::Outcome;
use crate::process::{EXIT_OK, orphans};
use crate::sys::answer::{Answer, Awaiting};
use crate::sys::child::{self, Send};

/// It was refused, or nobody can tell.
pub(super) const EXIT_REFUSED: u8 = 1;
/// No weir runs there.
pub(super) const EXIT_NOT_RUNNING: u8 = 3;

/// How long a verdict may take.
const VERDICT_MAX: Duration = Duration::from_secs(90);
/// Between two words that it is still waited for the end.
const END_STEP: Duration = Duration::from_secs(3600);

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
    // Who takes no orders is no weir, or one of its workers: no signal for it.
    let awaiting = Awaiting::open(pid)?;
    let signals: &[Send] = match order {
        Order::Reload | Order::Reopen | Order::Upgrade => {
            awaiting.ask(order.word().as_bytes())?;
            return verdict(&awaiting, pid);
        }
        Order::Quit => &[Send::Terminate],
        // Two that do not become one: the second says "at once".
        Order::Stop => &[Send::Terminate, Send::Interrupt],
    };
    for signal in signals {
        child::send(pid, *signal)?;
    }
    while !awaiting.wait_end(END_STEP)? {}
    Ok(Outcome::Done(format!("process {pid} has ended")))
}

fn verdict(awaiting: &Awaiting, pid: u32) -> io::Result<Outcome> {
    let refused = |line: String| Ok(Outcome::Refused(line));
    match awaiting.wait(VERDICT_MAX)? {
        Answer::Bytes(bytes) => match Outcome::decode(&bytes) {
            Some(outcome) => Ok(outcome),
            None => refused(format!("process {pid} answers what is no verdict")),
        },
        Answer::Ended => refused(format!("process {pid} has ended")),
        Answer::Nothing => refused(format!("process {pid} has not told the outcome in time")),
    }
}
