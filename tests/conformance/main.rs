//! RFC 9110 and RFC 9112 from the outside: raw bytes in and out, on both sides of the real binary.
//!
//! `cases/*.txt` hold the cases, in the format of [`script`]; `requirements.txt` holds every
//! requirement that binds an intermediary, each with its cases or the reason why it has none.
//! `WEIR_BIN` names another binary, `WEIR_CASE` runs only the cases whose names hold that text.

#[allow(dead_code, unused_imports, reason = "other tests use the rest")]
#[path = "../e2e/harness/mod.rs"]
mod harness;

mod requirements;
mod run;
mod script;
#[cfg(feature = "tls")]
mod secure;
#[allow(dead_code, reason = "other tests use the rest")]
mod wire;

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use harness::{Gate, Weir};
use run::{Pace, Speaks};
use script::{Act, Case, Step};

/// Cases at once, for each file of cases.
const THREADS: usize = 8;

/// Files of cases: a test for each, by the name of the file.
macro_rules! files {
    ($($name:ident),* $(,)?) => {
        const FILES: &[(&str, &str)] = &[$((
            concat!("tests/conformance/cases/", stringify!($name), ".txt"),
            include_str!(concat!("cases/", stringify!($name), ".txt")),
        )),*];

        $(mod $name {
            use super::{Pace, Speaks, run_file};

            const FILE: &str = concat!("tests/conformance/cases/", stringify!($name), ".txt");
            const TEXT: &str = include_str!(concat!("cases/", stringify!($name), ".txt"));

            #[test]
            fn holds() {
                run_file(FILE, TEXT, (Pace::Whole, Speaks::Plain));
            }

            #[test]
            fn holds_byte_by_byte() {
                run_file(FILE, TEXT, (Pace::Bytes, Speaks::Plain));
            }

            #[cfg(feature = "tls")]
            #[test]
            fn holds_over_tls() {
                let speaks = Speaks::Tls(super::secure::settings());
                run_file(FILE, TEXT, (Pace::Whole, speaks.clone()));
                run_file(FILE, TEXT, (Pace::Bytes, speaks));
            }
        })*
    };
}

files![
    request_line,
    request_fields,
    request_host,
    request_framing,
    request_chunked,
    paths,
    forwarding,
    response_head,
    response_framing,
    response_chunked,
    response_odd,
    persistence,
    expectations,
    upgrades,
    own_answers,
    end_to_end,
];

/// Runs all cases of a file against one weir, each with a listener and an origin of its own.
fn run_file(file: &str, text: &str, (pace, speaks): (Pace, Speaks)) {
    let filter = std::env::var("WEIR_CASE").unwrap_or_default();
    let mut cases = script::parse(file, text);
    cases.retain(|case| case.name.contains(&filter));
    if cases.is_empty() {
        return;
    }
    let gates: Vec<Gate> = cases.iter().map(|_| Gate::new()).collect();
    let weir = Weir::start(config(&cases, &gates, &speaks));
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(n) = claim(&next, cases.len()) {
                    let address = weir.address_of(&format!("case{n}"));
                    if let Err(why) = run::run(file, &cases[n], (pace, &speaks), address, &gates[n])
                    {
                        failures.lock().expect("no holder panics").push((n, why));
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().expect("no holder panics");
    failures.sort();
    let texts: Vec<String> = failures.into_iter().map(|(_, why)| why).collect();
    assert!(
        texts.is_empty(),
        "{} of {} cases failed\n\n{}",
        texts.len(),
        cases.len(),
        texts.join("\n")
    );
}

fn claim(next: &AtomicUsize, count: usize) -> Option<usize> {
    let n = next.fetch_add(1, Ordering::Relaxed);
    (n < count).then_some(n)
}

fn config(cases: &[Case], gates: &[Gate], speaks: &Speaks) -> String {
    let tls = match speaks {
        Speaks::Plain => String::new(),
        #[cfg(feature = "tls")]
        Speaks::Tls(_) => format!("    tls: {}\n", secure::listener_tls()),
    };
    let mut listeners = String::new();
    let mut upstreams = String::new();
    for (n, (case, gate)) in cases.iter().zip(gates).enumerate() {
        let routes = case.routes.as_deref();
        let routes = routes.unwrap_or("[{prefix: /, upstream: POOL}]");
        let routes = routes.replace("POOL", &format!("pool{n}"));
        listeners += &format!(
            "  - name: case{n}\n    listen: \"127.0.0.1:0\"\n    mode: http\n{tls}    routes: {routes}\n"
        );
        for line in &case.listener {
            listeners += &format!("    {line}\n");
        }
        let backend = gate.address();
        upstreams += &format!("  pool{n}:\n    backends: [\"{backend}\"]\n");
        for line in &case.upstream {
            upstreams += &format!("    {line}\n");
        }
    }
    format!(
        "stats_interval: 0\n\
         timeouts: {{connect: 1s, header: 2s, keep_alive: 4s, body: 2s, response: 3s}}\n\
         listeners:\n{listeners}upstreams:\n{upstreams}"
    )
}

#[test]
fn every_case_has_a_name_of_its_own_and_enough_are_about_bad_input() {
    let cases: Vec<Case> = FILES
        .iter()
        .flat_map(|(file, text)| script::parse(file, text))
        .collect();
    let names: HashSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len(), "two cases have one name");
    let bad = cases.iter().filter(|case| refuses(case)).count();
    println!("{} cases, {bad} of them about bad input", cases.len());
    assert!(bad >= 200, "only {bad} cases of bad input");
}

/// Whether weir refuses something in that case: by an answer that blames a side, or by an end.
fn refuses(case: &Case) -> bool {
    case.steps.iter().any(|(_, step)| {
        matches!(
            step,
            Step::Own {
                status: 400 | 408 | 413 | 414 | 417 | 431 | 501 | 502 | 505,
                ..
            } | Step::Act(Act::BadBody | Act::Cut | Act::CutWithRest | Act::Reset)
        )
    })
}
