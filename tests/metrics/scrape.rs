//! Asks the admin door.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::harness::{PATIENCE, eventually};

/// One look at what is at that path of the door, once it is there.
pub(crate) fn get(door: &Path, path: &str, accept: &str) -> String {
    let mut caller = eventually("the admin door is open", || UnixStream::connect(door).ok());
    caller.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let request = format!("GET {path} HTTP/1.0\r\nAccept: {accept}\r\n\r\n");
    caller.write_all(request.as_bytes()).expect("it listens");
    let mut answer = String::new();
    caller.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    body.to_owned()
}

/// A scrape, by sample.
#[derive(Clone, Debug)]
pub(crate) struct Samples(pub(crate) BTreeMap<String, f64>);

impl Samples {
    pub(crate) fn of(door: &Path) -> Self {
        let text = get(door, "/metrics", "*/*");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let samples = lines.map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a value");
            (name.to_owned(), value.parse().expect("a number"))
        });
        Self(samples.collect())
    }

    /// The sum of all samples of that name, whatever their labels, among which are these.
    pub(crate) fn sum(&self, name: &str, label: &str) -> f64 {
        let all = self.0.iter();
        let meant = all
            .filter(|(sample, _)| sample.split('{').next() == Some(name) && sample.contains(label));
        meant.map(|(_, value)| value).sum()
    }

    /// Samples that only grow.
    pub(crate) fn counters(&self) -> impl Iterator<Item = (&String, f64)> {
        let all = self.0.iter().map(|(sample, value)| (sample, *value));
        all.filter(|(sample, _)| {
            let name = sample.split('{').next().unwrap_or_default();
            let ends = ["_total", "_bucket", "_sum", "_count"];
            ends.iter().any(|end| name.ends_with(end)) && !name.starts_with("weir_worker_")
        })
    }
}
