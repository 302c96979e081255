//! Bodies of 256 MiB, both ways at once: between scripts that compare every byte, and between
//! curl and nginx by checksum.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use crate::config::Config;
use crate::harness::pattern::Pattern;
use crate::harness::{Origin, PATIENCE, Peer, Scratch, Weir, eventually};
use crate::software::{Nginx, bounded, is_installed, nginx_has, output};
use crate::wire::Head;

const LENGTH: usize = 256 << 20;

/// A size that fits into no buffer's size a whole number of times.
const PART: usize = 60_001;

/// How far one body may be ahead of the other. Both are under way all the time, and nobody waits
/// for a whole body on a slow machine.
const AHEAD: usize = 4 << 20;

const UP: u64 = 1;
const DOWN: u64 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length,
    Chunked,
}

use Framing::{Chunked, Length};

fn read_head(from: &mut impl BufRead) -> Head {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        let got = from.read_until(b'\n', &mut bytes).expect("a head");
        assert!(got > 0, "the connection ended within a head");
    }
    Head::parse(&bytes).expect("a head of HTTP")
}

/// How much has come of a body.
#[derive(Debug, Default)]
struct Pace {
    got: Mutex<usize>,
    changed: Condvar,
}

impl Pace {
    fn add(&self, count: usize) {
        *self.got.lock().expect("nobody failed") += count;
        self.changed.notify_all();
    }

    fn wait(&self, count: usize) {
        let got = self.got.lock().expect("nobody failed");
        let waits = |got: &mut usize| *got < count;
        let waited = self.changed.wait_timeout_while(got, PATIENCE, waits);
        let (got, outcome) = waited.expect("nobody failed");
        assert!(!outcome.timed_out(), "{} of {count} bytes came", *got);
    }
}

/// Sends a head and a body that is a pattern. It keeps pace with `other`, the body that comes the
/// other way, and ends when no more than `last` bytes of that are missing.
fn send(mut to: Peer, start: &str, framing: Framing, seed: u64, (other, last): (&Pace, usize)) {
    let field = match framing {
        Length => format!("Content-Length: {LENGTH}"),
        Chunked => "Transfer-Encoding: chunked".to_owned(),
    };
    to.send(format!("{start}\r\nHost: a\r\n{field}\r\n\r\n"));
    let mut pattern = Pattern::new(seed);
    let mut left = LENGTH;
    let mut bytes = Vec::new();
    while left > 0 {
        let part = left.min(PART);
        left -= part;
        if left == 0 {
            other.wait(LENGTH - last);
        } else {
            other.wait((LENGTH - left).saturating_sub(AHEAD));
        }
        bytes.clear();
        if framing == Chunked {
            write!(bytes, "{part:x};extension\r\n").expect("memory does not fail");
        }
        let from = bytes.len();
        bytes.resize(from + part, 0);
        pattern.fill(&mut bytes[from..]);
        if framing == Chunked {
            bytes.extend_from_slice(b"\r\n");
        }
        to.send(&bytes);
    }
    if framing == Chunked {
        to.send("0\r\n\r\n");
    }
}

/// Compares as much of a body as comes, so that a wrong byte is found where it is.
struct Expected<'a> {
    pattern: Pattern,
    pace: &'a Pace,
    left: usize,
    bytes: Vec<u8>,
}

impl Expected<'_> {
    fn take(&mut self, from: &mut impl Read, length: usize) {
        assert!(length <= self.left, "the body is longer than it was");
        let mut left = length;
        let mut got = [0; 64 * 1024];
        while left > 0 {
            let room = left.min(got.len());
            let part = from.read(&mut got[..room]).expect("a whole body");
            assert!(part > 0, "the body ended early");
            self.bytes.resize(part, 0);
            self.pattern.fill(&mut self.bytes);
            let at = LENGTH - self.left;
            assert!(got[..part] == self.bytes[..], "wrong bytes after {at}");
            left -= part;
            self.left -= part;
            self.pace.add(part);
        }
    }
}

/// Receives a body, and says how much has come.
fn receive(from: &mut impl BufRead, framing: Framing, seed: u64, pace: &Pace) {
    let mut expected = Expected {
        pattern: Pattern::new(seed),
        pace,
        left: LENGTH,
        bytes: Vec::new(),
    };
    if framing == Length {
        return expected.take(from, LENGTH);
    }
    loop {
        let mut line = String::new();
        from.read_line(&mut line).expect("a chunk size");
        let size = line.strip_suffix("\r\n").expect("a whole line");
        let size = usize::from_str_radix(size, 16).expect("a plain chunk size");
        expected.take(from, size);
        let mut end = [0; 2];
        from.read_exact(&mut end).expect("the end of a chunk");
        assert_eq!(&end, b"\r\n");
        if size == 0 {
            return assert_eq!(expected.left, 0, "the body is shorter than it was");
        }
    }
}

fn framing_of(head: &Head) -> Framing {
    if head.is_chunked() {
        return Chunked;
    }
    assert_eq!(head.content_length(), Some(LENGTH));
    Length
}

/// Sends one body and receives another on the same connection at once. Sending ends when no more
/// than `last` bytes of the other are missing.
fn exchange(peer: &Peer, start: &str, sent: (Framing, u64), got: (Framing, u64), last: usize) {
    let (pace, mut from) = (Pace::default(), BufReader::new(peer.share()));
    thread::scope(|scope| {
        scope.spawn(|| send(peer.share(), start, sent.0, sent.1, (&pace, last)));
        let head = read_head(&mut from);
        assert_eq!(framing_of(&head), got.0);
        receive(&mut from, got.0, got.1, &pace);
    });
}

fn both_ways_at_once(up: Framing, down: Framing) {
    let is_whole = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&is_whole);
    let origin = Origin::new(move |peer| {
        // A response that ends before its request would be the last word on it.
        exchange(peer, "HTTP/1.1 200 OK", (down, DOWN), (up, UP), 0);
        told.store(true, Ordering::SeqCst);
        Ok(())
    });
    let weir = Weir::start(Config::pool([origin.address()]));
    let peer = Peer::connect(weir.address_of("web")).expect("weir listens");
    let last = LENGTH % PART;
    exchange(&peer, "PUT / HTTP/1.1", (up, UP), (down, DOWN), last);
    eventually("the backend has it all", || {
        is_whole.load(Ordering::SeqCst).then_some(())
    });
}

#[test]
fn a_length_up_and_chunks_down_pass_whole() {
    both_ways_at_once(Length, Chunked);
}

#[test]
fn chunks_up_and_a_length_down_pass_whole() {
    both_ways_at_once(Chunked, Length);
}

/// Files below `/files` and, by way of a filter that takes their length away, below `/chunked`;
/// what is put below `/put` becomes a file.
const SERVER: &str = "client_max_body_size 0; client_body_buffer_size 64k;\n\
    location /chunked/ { rewrite ^/chunked/(.*)$ /$1 break; ssi on; ssi_types *; }\n\
    location /put/ { dav_methods PUT; create_full_put_path on; }";

fn checksum_of(file: &Path) -> String {
    output(bounded("sha256sum").stdin(File::open(file).expect("it is there")))
}

fn write_pattern(file: &Path) -> io::Result<()> {
    let mut file = File::create(file)?;
    let (mut pattern, mut bytes) = (Pattern::new(3), vec![0; 1 << 20]);
    for _ in 0..LENGTH / bytes.len() {
        pattern.fill(&mut bytes);
        file.write_all(&bytes)?;
    }
    Ok(())
}

/// The checksum of what curl gets from there, and the head that came with it.
fn download(url: &str, head: &Path) -> String {
    let mut curl = bounded("curl");
    curl.args(["-sS", "--fail", "-D"]).arg(head).arg(url);
    let mut curl = curl.stdout(Stdio::piped()).spawn().expect("curl runs");
    let body = curl.stdout.take().expect("it is piped");
    let sum = output(bounded("sha256sum").stdin(body));
    assert!(curl.wait().expect("it ends").success());
    sum
}

fn upload(file: &Path, url: &str, field: &str) {
    let mut curl: Command = bounded("curl");
    curl.args(["-sS", "--fail", "-H", field, "-T"]);
    output(curl.arg(file).arg(url));
}

#[test]
fn curl_uploads_and_downloads_by_checksum() {
    let tools = ["curl", "nginx", "sha256sum"];
    if !tools.into_iter().all(is_installed) || !nginx_has("http_dav_module") {
        return;
    }
    let scratch = Scratch::new();
    let root = scratch.file("");
    let file = scratch.file("large.bin");
    write_pattern(&file).expect("room for it");
    let sum = checksum_of(&file);
    let nginx = Nginx::start(&root, SERVER);
    let weir = Weir::start(Config::pool([nginx.name()]));
    let url = |path: &str| format!("http://{}{path}", weir.address_of("web"));
    let one = |down: &str, framing: &str, field: &str| {
        let put = scratch.file("put").join("copy.bin");
        thread::scope(|scope| {
            scope.spawn(|| upload(&file, &url("/put/copy.bin"), field));
            let head = scratch.file("head");
            assert_eq!(download(&url(down), &head), sum);
            let head = std::fs::read_to_string(head).expect("curl wrote it");
            assert!(head.to_ascii_lowercase().contains(framing), "{head}");
        });
        assert_eq!(checksum_of(&put), sum);
        std::fs::remove_file(put).expect("it was there");
    };
    one(
        "/large.bin",
        "content-length: 268435456",
        "X-Framing: length",
    );
    let chunked = "Transfer-Encoding: chunked";
    one("/chunked/large.bin", "transfer-encoding: chunked", chunked);
}
