//! wrk in front of weir and nginx behind it, for a bounded time: no error of any kind.

use crate::config::Config;
use crate::harness::{Scratch, Weir};
use crate::software::{Nginx, bounded, is_installed, output};

const SERVER: &str = "location / { return 200 \"$request_method $content_length\"; }";

/// Counts answers that are not the expected one, and at the end prints what failed.
const REPORT: &str = r#"
local threads = {}
wrong = 0
function setup(thread) table.insert(threads, thread) end
function response(status, headers, body)
  if status ~= 200 or body ~= expected then wrong = wrong + 1 end
end
function done(summary, latency, requests)
  local e, wrong = summary.errors, 0
  for _, thread in ipairs(threads) do wrong = wrong + thread:get("wrong") end
  io.write(string.format("report connect %d read %d write %d timeout %d status %d wrong %d requests %d\n",
    e.connect, e.read, e.write, e.timeout, e.status, wrong, summary.requests))
end
"#;

/// Loads weir for two seconds as a script says.
fn load(script: &str) {
    if !is_installed("wrk") || !is_installed("nginx") {
        return;
    }
    let scratch = Scratch::new();
    let nginx = Nginx::start(&scratch.file(""), SERVER);
    let weir = Weir::start(Config::pool([nginx.name()]));
    let file = scratch.write("load.lua", format!("{script}\n{REPORT}"));
    let url = format!("http://{}/x", weir.address_of("web"));
    let mut wrk = bounded("wrk");
    wrk.args(["-t", "2", "-c", "64", "-d", "2s", "--timeout", "30s", "-s"]);
    let text = output(wrk.arg(file).arg(url));
    let report = text.lines().find(|line| line.starts_with("report "));
    let (errors, requests) = report
        .and_then(|line| line.rsplit_once(" requests "))
        .unwrap_or_else(|| panic!("wrk said: {text}"));
    assert_eq!(
        errors, "report connect 0 read 0 write 0 timeout 0 status 0 wrong 0",
        "{text}"
    );
    let requests: u64 = requests.parse().expect("a number");
    assert!(requests > 64, "only {requests} requests");
}

#[test]
fn wrk_meets_no_error() {
    load("expected = 'GET '");
}

#[test]
fn wrk_meets_no_error_with_bodies() {
    load(
        "wrk.method, wrk.body, expected = 'POST', string.rep('body', 2500), 'POST 10000'\n\
         wrk.headers['Content-Type'] = 'text/plain'",
    );
}
