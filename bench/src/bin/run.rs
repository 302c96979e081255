//! The comparison: every chosen workload through every chosen peer that is found, interleaved.
//!
//! `run` reads BENCH, PEERS, REPEAT, DURATION, IDLE and SYSCALLS from the environment and writes
//! a table to standard output, and JSON and charts below bench/results. See README.md.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use weir_bench::chart::{self, Chart};
use weir_bench::peers::Peer;
use weir_bench::report;
use weir_bench::results::{REFERENCE, Results, figures};
use weir_bench::runner::{self, Runner, Sample};
use weir_bench::settings::Settings;
use weir_bench::sys;
use weir_bench::workload::{Kind, Workload};

const RESULTS_FOLDER: &str = "bench/results";
const WORK_FOLDER: &str = "bench/target/run";
/// Counts do not get better with time.
const SYSCALL_SECONDS: f64 = 1.0;

const USAGE: &str = "\
The comparison of weir and its peers; usually run as `make bench`, in the root of the repository.
It takes no arguments. The environment says what to run (bench/README.md has more):

  BENCH      workloads by name, `l4`, `l7` or `tls`: all by default
  PEERS      programs by name: all that are found by default; weir is always among them
  REPEAT     how often each cell is run, 1 to 100: 3 by default
  DURATION   seconds of one measurement, 0.1 to 60: 2 by default
  IDLE       idle connections, 1 to 100000: 10000 by default
  SYSCALLS   0 leaves out the counting of system calls
  WEIR_BIN, NGINX_BIN, ...   a program to use instead of the one that is found
";

fn main() -> ExitCode {
    if let Some(argument) = std::env::args().nth(1) {
        if argument == "--help" || argument == "-h" {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        eprint!("bench: unknown argument `{argument}`\n\n{USAGE}");
        return ExitCode::from(2);
    }
    sys::catch_signals();
    let read = |name: &str| std::env::var(name).ok();
    match Settings::read(&read).and_then(|settings| run(&settings)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("bench: {message}");
            ExitCode::from(2)
        }
    }
}

/// A peer and its program; `direct` has none.
type Found = (Peer, Option<PathBuf>);

/// Runs it all. False when some cell had errors.
fn run(settings: &Settings) -> Result<bool, String> {
    if !Path::new("bench/Cargo.toml").is_file() {
        return Err("must be run in the root of the repository, as `make bench` does".to_owned());
    }
    let mut runner = Runner::new(Path::new(WORK_FOLDER), settings.idle_connections)
        .map_err(|e| format!("cannot set up: {e}"))?;
    let found = find_peers(&settings.peers);
    let mut results = Results {
        facts: facts(settings, &runner),
        workloads: settings.workloads.clone(),
        ..Results::default()
    };
    for (peer, program) in &found {
        let version = program.as_deref().map(|program| peer.version(program));
        let version = version.unwrap_or_else(|| "no proxy".to_owned());
        eprintln!("{:<15} {version}", peer.name);
        results.peers.push((*peer, version));
    }
    if !found.iter().any(|(peer, _)| peer.name == REFERENCE) {
        eprintln!("no {REFERENCE}, so no ratios: build it, or name it in WEIR_BIN");
    }
    let cells = cells(settings, &found);
    measure(settings, &mut runner, &cells, &mut results);
    if settings.count_syscalls && !sys::interrupted() {
        count_syscalls(&mut runner, &cells, &mut results);
    }
    print!("{}", report::table(&results));
    if sys::interrupted() {
        return Err("interrupted: the table is not complete, nothing was written".to_owned());
    }
    write_files(&results).map_err(|e| format!("cannot write {RESULTS_FOLDER}: {e}"))?;
    Ok(results
        .samples
        .values()
        .flatten()
        .all(|sample| sample.errors.is_empty()))
}

fn find_peers(peers: &[Peer]) -> Vec<Found> {
    let mut found = Vec::new();
    for peer in peers {
        match peer.find() {
            None if !peer.is_direct() => eprintln!("{:<15} not found: skipped", peer.name),
            program => found.push((*peer, program)),
        }
    }
    found
}

/// Workloads with the peers that can do them, in the order in which they are measured.
fn cells<'a>(settings: &'a Settings, found: &'a [Found]) -> Vec<(&'a Workload, &'a Found)> {
    let can = |workload: &Workload, peer: &Peer| {
        let proxy_only = matches!(workload.kind, Kind::Idle { .. } | Kind::Start);
        (workload.is_http() || peer.has_l4())
            && !(proxy_only && peer.is_direct())
            && (workload.tls.is_none() || peer.has_tls(workload.is_http()))
    };
    let pairs = settings.workloads.iter().flat_map(|workload| {
        let able = found.iter().filter(move |(peer, _)| can(workload, peer));
        able.map(move |found| (workload, found))
    });
    pairs.collect()
}

fn measure(
    settings: &Settings,
    runner: &mut Runner,
    cells: &[(&Workload, &Found)],
    results: &mut Results,
) {
    let total = cells.len() * settings.repeat;
    let expected: Duration = cells
        .iter()
        .map(|(w, _)| runner::expected_time(w, settings.duration))
        .sum();
    let minutes = expected.as_secs_f64() * settings.repeat as f64 / 60.0;
    eprintln!("{total} cells, about {minutes:.0} minutes");
    let mut done = 0;
    for repeat in 1..=settings.repeat {
        for (workload, (peer, program)) in cells {
            if sys::interrupted() {
                return;
            }
            done += 1;
            let sample = runner.sample(peer, program.as_deref(), workload, settings.duration);
            if sys::interrupted() {
                return;
            }
            eprintln!(
                "[{done}/{total}] {}",
                progress(workload, peer, repeat, &sample)
            );
            results
                .samples
                .entry((workload.name, peer.name))
                .or_default()
                .push(sample);
        }
    }
}

fn progress(workload: &Workload, peer: &Peer, repeat: usize, sample: &Sample) -> String {
    let mut line = format!("{} {} #{repeat}:", workload.name, peer.name);
    for figure in figures(workload).into_iter().take(2) {
        if let Some(value) = sample.figures.get(figure.name) {
            let value = report::number(figure.shown(*value));
            line.push_str(&format!(" {} {value} {}", figure.title, figure.unit));
        }
    }
    for (what, count) in &sample.errors {
        line.push_str(&format!("\n    ERROR: {what} ({count})"));
    }
    if !sample.log.is_empty() {
        line.push_str(&format!(
            "\n    it wrote: {}",
            sample.log.replace('\n', "\n    it wrote: ")
        ));
    }
    line
}

fn count_syscalls(runner: &mut Runner, cells: &[(&Workload, &Found)], results: &mut Results) {
    let duration = Duration::from_secs_f64(SYSCALL_SECONDS);
    for (workload, (peer, program)) in cells {
        let counted = !matches!(workload.kind, Kind::Idle { .. } | Kind::Start);
        let Some(program) = program
            .as_ref()
            .filter(|_| counted && workload.rate_per_s.is_none())
        else {
            continue;
        };
        if sys::interrupted() {
            return;
        }
        eprintln!("counting system calls: {} {}", workload.name, peer.name);
        match runner.syscalls(peer, program, workload, duration) {
            Some(sample) => {
                results.syscalls.insert((workload.name, peer.name), sample);
            }
            None => eprintln!("    neither perf nor strace could count them"),
        }
    }
}

/// What a reader must know to judge the figures.
fn facts(settings: &Settings, runner: &Runner) -> BTreeMap<String, String> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease");
    let model = read("/proc/cpuinfo");
    let model = model
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown CPU", |(_, model)| model);
    let place = if runner.is_pinned() {
        "proxy on one CPU, load and backends on another"
    } else {
        "one CPU for proxy, load and backends: rates and latencies mean little"
    };
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    BTreeMap::from([
        (
            "machine".to_owned(),
            format!("{model}, Linux {}, loopback; {place}", kernel.trim()),
        ),
        ("cpus".to_owned(), runner.cpus().to_string()),
        (
            "method".to_owned(),
            format!(
                "{} repeats of {} s, interleaved; medians, spread is half of max - min; x weir is \
                 the median ratio to {REFERENCE} within a repeat",
                settings.repeat,
                settings.duration.as_secs_f64()
            ),
        ),
        (
            "idle connections".to_owned(),
            runner.idle_connections().to_string(),
        ),
        ("unix time".to_owned(), now.as_secs().to_string()),
    ])
}

/// `latest.json`, the same under the run's time, and the charts.
fn write_files(results: &Results) -> io::Result<()> {
    let folder = Path::new(RESULTS_FOLDER);
    fs::create_dir_all(folder)?;
    let json = report::json(results);
    let time = results.facts.get("unix time").map_or("run", String::as_str);
    fs::write(folder.join(format!("{time}.json")), &json)?;
    fs::write(folder.join("latest.json"), &json)?;
    fs::write(folder.join("latest.txt"), report::table(results))?;
    for chart in Chart::ALL {
        if let Some(svg) = chart::svg(results, chart) {
            fs::write(folder.join(format!("{}.svg", chart.file_name())), svg)?;
        }
    }
    eprintln!("written: {RESULTS_FOLDER}/latest.json, latest.txt and charts");
    Ok(())
}
