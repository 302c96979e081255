//! Measures the pure cores of weir: nanoseconds, and instructions where valgrind is installed.
//!
//! `micro [NAME..]` reports every case, or those whose name contains one of the words. Nanoseconds
//! depend on the machine and its mood; instruction counts hardly do, and show a change at once.

mod cases;

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use cases::Case;

/// Time that one case may take for its nanoseconds.
const MEASURE: Duration = Duration::from_millis(200);
const ROUNDS: usize = 9;
/// Two runs of different length: their difference is free of what happens once.
const STEPS_SHORT: u64 = 1_000;
const STEPS_LONG: u64 = 3_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, name, steps] = &arguments[..]
        && flag == "--repeat"
    {
        return repeat(name, steps);
    }
    let wanted = |case: &&Case| {
        arguments.is_empty()
            || arguments
                .iter()
                .any(|word| case.name.contains(word.as_str()))
    };
    println!("{:<26}{:>10}{:>14}", "per step", "ns", "instructions");
    for case in cases::ALL.iter().filter(wanted) {
        let instructions = instructions(case).map_or_else(|| "-".to_owned(), |n| n.to_string());
        println!(
            "{:<26}{:>10.1}{instructions:>14}",
            case.name,
            nanoseconds(case)
        );
    }
    ExitCode::SUCCESS
}

/// Runs one case so many times: what valgrind is pointed at.
fn repeat(name: &str, steps: &str) -> ExitCode {
    let case = cases::ALL.iter().find(|case| case.name == name);
    let (Some(case), Ok(steps)) = (case, steps.parse::<u64>()) else {
        eprintln!("usage: micro --repeat NAME STEPS");
        return ExitCode::from(2);
    };
    let mut step = (case.prepare)();
    (0..steps).for_each(|_| step());
    ExitCode::SUCCESS
}

/// The fastest of several rounds: what disturbs can only add.
fn nanoseconds(case: &Case) -> f64 {
    let mut step = (case.prepare)();
    let mut steps = 0_u32;
    let started = Instant::now();
    while started.elapsed() < MEASURE / 10 {
        (0..100).for_each(|_| step());
        steps += 100;
    }
    let per_round = steps.max(1);
    let round = |_| {
        let started = Instant::now();
        (0..per_round).for_each(|_| step());
        started.elapsed().as_secs_f64() * 1e9 / f64::from(per_round)
    };
    (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min)
}

/// Instructions of one step by callgrind; none when it is not installed.
fn instructions(case: &Case) -> Option<u64> {
    let short = collected(case, STEPS_SHORT)?;
    let long = collected(case, STEPS_LONG)?;
    Some(long.checked_sub(short)? / (STEPS_LONG - STEPS_SHORT))
}

fn collected(case: &Case, steps: u64) -> Option<u64> {
    let program = std::env::current_exe().ok()?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["--repeat", case.name, &steps.to_string()])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = text
        .lines()
        .find_map(|line| line.split_once("Collected : "))?;
    line.1.trim().parse().ok()
}
