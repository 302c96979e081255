//! The load on its own, for work on one program: `run` is what compares.
//!
//! `load backends` opens the backends, prints their ports and serves until it is stopped.
//! `load WORKLOAD PORT.. [--seconds S] [--pid PID]` loads a proxy (or, with several ports, the
//! backends themselves) on 127.0.0.1; with a pid it gives that process's CPU time per unit.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::ExitCode;
use std::time::Duration;

use weir_bench::engine::{Cell, Engine, Outcome};
use weir_bench::sys;
use weir_bench::workload::{self, Kind, Workload};

const USAGE: &str = "usage: load backends
       load WORKLOAD PORT.. [--seconds S] [--pid PID]";

fn main() -> ExitCode {
    sys::catch_signals();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.split_first() {
        Some((first, [])) if first == "backends" => backends(),
        Some((name, rest)) => client(name, rest),
        None => Err(USAGE.to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn backends() -> Result<(), String> {
    let mut engine = Engine::new().map_err(|e| e.to_string())?;
    let ports = engine.listen().map_err(|e| e.to_string())?;
    println!("l4 {:?}\nhttp {:?}", ports.l4, ports.http);
    while !sys::interrupted() {
        engine.hold(Duration::from_secs(1));
    }
    Ok(())
}

struct Options {
    ports: Vec<u16>,
    seconds: f64,
    pid: Option<i32>,
}

fn options(arguments: &[String]) -> Option<Options> {
    let mut options = Options {
        ports: Vec::new(),
        seconds: 2.0,
        pid: None,
    };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--seconds" => options.seconds = rest.next()?.parse().ok()?,
            "--pid" => options.pid = Some(rest.next()?.parse().ok()?),
            port => options.ports.push(port.parse().ok()?),
        }
    }
    let in_range = (0.1..=600.0).contains(&options.seconds);
    (!options.ports.is_empty() && in_range).then_some(options)
}

fn client(name: &str, arguments: &[String]) -> Result<(), String> {
    let known = || {
        workload::ALL
            .iter()
            .filter(|w| !matches!(w.kind, Kind::Idle { .. } | Kind::Start))
    };
    let workload = known().find(|w| w.name == name).ok_or_else(|| {
        let names: Vec<_> = known().map(|w| w.name).collect();
        format!("{USAGE}\nworkloads: {}", names.join(" "))
    })?;
    let options = options(arguments).ok_or(USAGE)?;
    let cell = Cell {
        workload: *workload,
        targets: options
            .ports
            .iter()
            .map(|p| SocketAddrV4::new(Ipv4Addr::LOCALHOST, *p))
            .collect(),
        duration: Duration::from_secs_f64(options.seconds),
        spin: true,
        own_backends: false,
    };
    let mut engine = Engine::new().map_err(|e| e.to_string())?;
    engine.speak(workload.tls)?;
    let cpu = || options.pid.and_then(sys::cpu_time_ns).unwrap_or(0);
    let outcome = engine.run(&cell, &cpu);
    print(workload, &outcome, options.pid.is_some());
    if outcome.errors.is_empty() {
        Ok(())
    } else {
        Err("some answers were wrong".to_owned())
    }
}

fn print(workload: &Workload, outcome: &Outcome, has_cpu: bool) {
    let unit = workload.unit().name();
    println!(
        "{:.3} {unit}s in {:.2} s: {:.2}/s",
        outcome.units,
        outcome.seconds,
        outcome.units / outcome.seconds
    );
    if has_cpu {
        let us = outcome.cpu_ns as f64 / 1e3 / outcome.units;
        println!("proxy CPU: {us:.2} us per {unit}");
    }
    if outcome.latencies.count() > 0 {
        let us = |share| outcome.latencies.quantile(share) as f64 / 1e3;
        println!(
            "latency us: p50 {:.0}, p99 {:.0}, p99.9 {:.0}",
            us(0.5),
            us(0.99),
            us(0.999)
        );
    }
    for (what, count) in &outcome.errors {
        println!("error: {what}: {count}");
    }
}
