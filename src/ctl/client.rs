//! Asks a weir that runs, at its admin socket.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::sys::door;

/// How long an answer may take to come on.
const WAIT_MAX: Duration = Duration::from_secs(120);
/// How long the door may take to let somebody in, and to answer what takes no work.
pub(super) const SERVED_MAX: Duration = Duration::from_secs(10);
/// How often it is asked of who goes before it has heard anything, and how long between.
const TRIES_MAX: usize = 4;
const TRY_STEP: Duration = Duration::from_millis(100);
/// The longest answer, in bytes.
const ANSWER_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// What is said of an answer that has not come.
pub(super) const LATE: &str = "weir has not answered in time";

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

/// Why nothing came back.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nobody listens at that socket.
    NotRunning(String),
    /// Nothing came for so long as was to be waited.
    Late,
    /// It went wrong otherwise.
    Broken(String),
}

/// Whether a request changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Post,
}

/// One request, on a connection of its own.
pub(super) fn ask(socket: &Path, method: Method, target: &str) -> Result<Answer, Failure> {
    knock(socket, SERVED_MAX)?;
    let mut tries = 1..TRIES_MAX;
    let answered = loop {
        let answered = exchange(connect(socket)?, method, target, WAIT_MAX);
        let is_unheard = answered.as_ref().is_err_and(is_unheard);
        if !is_unheard || tries.next().is_none() {
            break answered.map_err(failure);
        }
        std::thread::sleep(TRY_STEP);
    };
    answered.map_err(|failure| match failure {
        Failure::Broken(words) => Failure::Broken(format!("{}: {words}", socket.display())),
        Failure::NotRunning(_) | Failure::Late => failure,
    })
}

/// Whether who was asked has gone before it had read the request: at an upgrade another one comes.
fn is_unheard(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

/// Goes to the door.
pub(super) fn connect(socket: &Path) -> Result<UnixStream, Failure> {
    connect_within(socket, SERVED_MAX)
}

fn connect_within(socket: &Path, limit: Duration) -> Result<UnixStream, Failure> {
    let shown = socket.display();
    door::call(socket, limit).map_err(|error| {
        let is = |kinds: &[io::ErrorKind]| kinds.contains(&error.kind());
        if is(&[io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused]) {
            Failure::NotRunning(format!(
                "no weir runs that has the admin socket {shown}; `-p FILE` names its pid file"
            ))
        } else if is(&[io::ErrorKind::PermissionDenied]) {
            let who = "root, the user that weir runs as and its group may ask";
            Failure::Broken(format!("{shown}: {error}; {who}"))
        } else if is(&[io::ErrorKind::WouldBlock]) {
            deaf(socket, limit)
        } else {
            Failure::Broken(format!("{shown}: {error}"))
        }
    })
}

/// Whether somebody serves at the door: of who is stopped nothing else would ever come.
pub(super) fn knock(socket: &Path, limit: Duration) -> Result<(), Failure> {
    let stream = connect_within(socket, limit)?;
    match ask_within(stream, Method::Get, "/ready", limit) {
        Err(Failure::Late) => Err(deaf(socket, limit)),
        // What else may be wrong the request itself comes upon.
        Ok(_) | Err(Failure::NotRunning(_) | Failure::Broken(_)) => Ok(()),
    }
}

fn deaf(socket: &Path, limit: Duration) -> Failure {
    let shown = socket.display();
    Failure::Broken(format!(
        "{shown}: nobody has answered there for {} s; who serves it starts, is stopped, or hangs",
        limit.as_secs()
    ))
}

/// The process that has opened the door.
pub(super) fn opener(stream: &UnixStream) -> Option<u32> {
    door::opener(stream)
}

/// One request, which ends the connection; waits at most so long for a part of the answer.
pub(super) fn ask_within(
    stream: UnixStream,
    method: Method,
    target: &str,
    limit: Duration,
) -> Result<Answer, Failure> {
    exchange(stream, method, target, limit).map_err(failure)
}

fn failure(error: io::Error) -> Failure {
    let kind = error.kind();
    match matches!(kind, io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) {
        true => Failure::Late,
        false => Failure::Broken(error.to_string()),
    }
}

fn exchange(
    mut stream: UnixStream,
    method: Method,
    target: &str,
    limit: Duration,
) -> io::Result<Answer> {
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    let method = match method {
        Method::Get => "GET",
        Method::Post => "POST",
    };
    let length = if method == "POST" {
        "Content-Length: 0\r\n"
    } else {
        ""
    };
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: weir\r\nAccept: text/plain\r\n\
         Connection: close\r\n{length}\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes)?;
    parse(&bytes).ok_or_else(|| io::Error::other("it ended before it had answered; ask again"))
}

/// An answer that ends with its connection, or with its length.
fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|it| it == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let body = &bytes[end + 4..];
    let mut lines = head.lines();
    let length = lines.find_map(|line| line.strip_prefix("Content-Length: "));
    let length: Option<usize> = length.and_then(|it| it.trim().parse().ok());
    if length.is_some_and(|length| length != body.len()) {
        return None;
    }
    let body = String::from_utf8_lossy(body).into_owned();
    Some(Answer { status, body })
}

/// A value as it stands in a query.
pub(super) fn escaped(value: &str) -> String {
    let mut out = String::new();
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' => {
                out.push(char::from(byte));
            }
            _ => {
                let digits = b"0123456789ABCDEF";
                out.push('%');
                out.push(char::from(digits[usize::from(byte >> 4)]));
                out.push(char::from(digits[usize::from(byte & 15)]));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn who_goes_before_it_has_heard_anything_is_asked_again() {
        let path = std::env::temp_dir().join(format!("weir-client-{}", std::process::id()));
        let listener = UnixListener::bind(&path).expect("the path is free");
        let serve = move |accepts: usize| {
            // One knocks first.
            drop(listener.accept().expect("somebody asks"));
            for _ in 1..accepts {
                // Closed with the request in it, unread.
                let (mut caller, _) = listener.accept().expect("somebody asks");
                let _ = caller.read(&mut [0]);
            }
            let (mut caller, _) = listener.accept().expect("somebody asks");
            let _ = caller.read(&mut [0; 1000]);
            let _ = caller.write_all(b"HTTP/1.1 200 OK\r\n\r\nyes");
        };
        let serving = std::thread::spawn(move || serve(TRIES_MAX));
        let answer = ask(&path, Method::Post, "/drain").expect("the last one hears it");
        assert_eq!(answer.body, "yes");
        serving.join().expect("it served");
        std::fs::remove_file(&path).expect("it is there");
    }

    #[test]
    fn a_door_that_nobody_serves_is_not_waited_at_for_ever() {
        let path = std::env::temp_dir().join(format!("weir-deaf-{}", std::process::id()));
        let address = crate::core::address::Address::Unix(path.clone());
        let listener = crate::sys::socket::listen(&address, 0, None).expect("the path is free");
        let limit = Duration::from_millis(50);
        let (told, hear) = std::sync::mpsc::channel();
        // The first is let in and not heard, those after it are not even let in.
        let knocking = std::thread::spawn(move || {
            let knocked = [(); 3].map(|()| format!("{:?}", knock(&path, limit)));
            told.send(knocked)
        });
        let knocked = hear.recv_timeout(Duration::from_secs(60));
        for words in knocked.expect("none of them hangs") {
            assert!(words.contains("is stopped, or hangs"), "{words}");
        }
        knocking.join().expect("it ended").expect("it was heard");
        listener.close();
    }

    #[test]
    fn an_answer_is_read_whole_or_not_at_all() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        let answer = parse(whole).expect("whole");
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
        assert_eq!(parse(&whole[..whole.len() - 1]), None);
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\n"), None);
        let until_end = parse(b"HTTP/1.1 409 Conflict\r\n\r\nno").expect("until the end");
        assert_eq!((until_end.status, until_end.body.as_str()), (409, "no"));
    }

    #[test]
    fn values_are_escaped() {
        assert_eq!(escaped("a/b c&\u{e4}"), "a/b%20c%26%C3%A4");
    }
}
