//! Orders of `weir -s`, at the admin door.

use std::path::Path;
use std::time::Duration;

use crate::control::order::AtDoor;
use crate::ctl::client::{self, Answer, Failure, Method};

/// Gives an order to that process, if the socket is one of its own, and waits so long.
#[must_use]
pub fn order(word: &str, socket: &Path, pid: u32, limit: Duration) -> AtDoor {
    let Ok(stream) = client::connect(socket) else {
        return AtDoor::Shut;
    };
    // The file may be that of another weir, and one without a door may be meant.
    if client::opener(&stream) != Some(pid) {
        return AtDoor::Shut;
    }
    if client::knock(socket, client::SERVED_MAX).is_err() {
        return AtDoor::Shut;
    }
    let target = format!("/{word}");
    match client::ask_within(stream, Method::Post, &target, limit) {
        Ok(Answer { status: 200, body }) => AtDoor::Done(line(&body)),
        // It was not begun, or the verdict went with the supervisor that it was to come from. There
        // is the other way, and no order does harm the second time.
        Ok(Answer { status: 503, .. }) => AtDoor::Shut,
        Ok(Answer { body, .. }) => AtDoor::Refused(line(&body)),
        Err(Failure::Late) => AtDoor::Late,
        Err(Failure::NotRunning(_) | Failure::Broken(_)) => AtDoor::Shut,
    }
}

fn line(body: &str) -> String {
    body.trim_end().to_owned()
}
