//! Sums are those of all workers that there are and were.

use std::fmt::Display;
use std::path::Path;

use crate::harness::{Launch, Scratch, Weir, eventually};
use crate::machine::Machine;
use crate::scrape::{Samples, get};
use crate::traffic::{Clients, origin, requests};

/// Everything goes to one backend.
pub(crate) fn config(door: &Path, backend: impl Display) -> String {
    let door = door.display();
    format!(
        "admin: {{socket: \"{door}\"}}\n\
         stats_interval: 0s\n\
         timeouts: {{drain: 10m}}\n\
         listeners:\n  \
           - name: front\n    listen: \"127.0.0.1:0\"\n    mode: http\n    \
             routes: [{{prefix: /, upstream: pool}}]\n\
         upstreams:\n  \
           pool:\n    backends: [{{id: b1, address: \"{backend}\"}}]\n"
    )
}

const RESPONSES: &str = "weir_listener_responses_total";
const REQUESTS: &str = "weir_listener_requests_total";

/// What each request that was answered well is counted as.
fn settled(samples: &Samples, count: f64) -> bool {
    [
        (REQUESTS, ""),
        (RESPONSES, "code_class=\"2xx\""),
        ("weir_listener_ends_total", "why=\"ok\""),
        ("weir_route_responses_total", "code_class=\"2xx\""),
        ("weir_backend_responses_total", "code_class=\"2xx\""),
        ("weir_backend_response_seconds_count", ""),
        ("weir_request_duration_seconds_count", ""),
        ("weir_first_byte_seconds_count", ""),
    ]
    .iter()
    .all(|(name, label)| {
        // All numbers here are whole.
        (samples.sum(name, label) - count).abs() < 0.5
    })
}

#[test]
fn every_request_is_counted_once_in_each_sum() {
    let (scratch, origin) = (Scratch::new(), origin());
    let door = scratch.file("weir.sock");
    let weir: Weir = Launch::new(config(&door, origin.address())).start();
    requests(weir.address(), 25, 200);
    eventually("all are counted", || {
        settled(&Samples::of(&door), 25.0).then_some(())
    });
    requests(weir.address(), 3, 404);
    requests(weir.address(), 2, 503);
    let samples = Samples::of(&door);
    for (class, count) in [("2xx", 25.0), ("4xx", 3.0), ("5xx", 2.0), ("3xx", 0.0)] {
        let label = format!("code_class=\"{class}\"");
        for name in [RESPONSES, "weir_backend_responses_total"] {
            let sum = samples.sum(name, &label);
            assert!((sum - count).abs() < 0.5, "{name} {class}: {sum}");
        }
    }
    assert!(samples.sum("weir_connect_duration_seconds_count", "") >= 1.0);
    let status = get(&door, "/status.json", "*/*");
    for part in [
        "\"responses\":{\"1xx\":0,\"2xx\":25,\"3xx\":0,\"4xx\":3,\"5xx\":2,\"other\":0}",
        "\"latency_ms\":{\"p50\":",
        "\"workers\":[{\"row\":0,\"pid\":",
        "\"memory\":{\"waiting_bytes\":0,\"limit_bytes\":",
        "\"mean_ms\":",
    ] {
        assert!(status.contains(part), "{part} is not in {status}");
    }
}

#[test]
fn no_counter_goes_down_and_none_is_wrong_however_often_workers_are_killed() {
    const KILLS: usize = 12;
    const WORKERS: usize = 3;
    let (scratch, origin) = (Scratch::new(), origin());
    let door = scratch.file("weir.sock");
    let machine = Machine::start(config(&door, origin.address()), WORKERS);
    let clients = Clients::start(machine.address(), 4);
    let mut last = Samples::of(&door);
    let mut look = |clients: &Clients| {
        let (_, answered) = clients.counts();
        let now = Samples::of(&door);
        let (begun, _) = clients.counts();
        for (sample, before) in last.counters() {
            let after = now.0.get(sample).copied();
            assert!(
                after.is_some_and(|after| after >= before),
                "{sample}: {before}, {after:?}"
            );
        }
        let requests = now.sum(REQUESTS, "");
        let is_true = (answered as f64..=begun as f64).contains(&requests);
        assert!(
            is_true,
            "{requests} requests of {begun}, {answered} answered"
        );
        last = now;
        requests
    };
    for kill in 0..KILLS {
        let before = look(&clients);
        machine.replace_worker(kill % WORKERS);
        eventually("traffic goes on", || {
            (look(&clients) > before + 50.0).then_some(())
        });
    }
    let (begun, answered) = clients.finish();
    let settled = Samples::of(&door);
    let requests_before = settled.sum(REQUESTS, "");
    assert!((answered as f64..=begun as f64).contains(&requests_before));
    // Nobody has anything in hand now: whoever dies takes nothing along.
    for worker in 0..WORKERS {
        machine.replace_worker(worker);
    }
    let after = Samples::of(&door);
    for (sample, before) in settled.counters() {
        let changed = after.0[sample] - before;
        assert!(changed.abs() < 1e-9, "{sample} has changed by {changed}");
    }
    requests(machine.address(), 100, 200);
    eventually("all are counted", || {
        let more = Samples::of(&door);
        let counted = |name| more.sum(name, "") - after.sum(name, "");
        let names = [REQUESTS, RESPONSES, "weir_request_duration_seconds_count"];
        let is_exact = names.iter().all(|name| (counted(name) - 100.0).abs() < 0.5);
        is_exact.then_some(())
    });
}
