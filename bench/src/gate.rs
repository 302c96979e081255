//! What a unit of work costs weir in user-space instructions and system calls, against a baseline
//! that is kept with the code.
//!
//! Unlike times, both counts are nearly the same from run to run, whatever else the machine does:
//! the proxy runs in valgrind(1), and the load takes its next step only when the proxy sleeps.
//! The cost of a unit is the difference of two runs, so start and end are not in it.

use std::fmt::Write as _;

/// More than so many percent above the baseline fails.
pub const WORSE_PERCENT_MAX: f64 = 2.0;
/// System calls are few, so less than this is noise whatever it is in percent.
const CALLS_NOISE: f64 = 0.02;

/// What one unit of work costs.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    /// The kind of work.
    pub name: String,
    /// Instructions in user space.
    pub instructions: f64,
    /// System calls; reading the clock is none.
    pub calls: f64,
}

/// Totals of one run of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Instructions in user space.
    pub instructions: u64,
    /// System calls; reading the clock is none.
    pub calls: u64,
}

impl Totals {
    /// Reads what valgrind wrote (`--tool=cachegrind --trace-syscalls=yes`). None when it did not
    /// come to its end.
    #[must_use]
    pub fn read(log: &str) -> Option<Self> {
        let refs = log.lines().rev().find_map(|line| {
            let (_, rest) = line.split_once("I")?;
            let number = rest.trim_start().strip_prefix("refs:")?;
            Some(number.trim().replace(',', ""))
        })?;
        // Outside valgrind the clock is read without a call (vdso(7)).
        let is_call = |line: &&str| {
            line.starts_with("SYSCALL[")
                && line.contains(" sys_")
                && !line.contains(" sys_clock_gettime")
        };
        Some(Self {
            instructions: refs.parse().ok()?,
            calls: log.lines().filter(is_call).count() as u64,
        })
    }

    /// What each of `units` more costs, where this run did them beside what `fewer` did.
    #[must_use]
    pub fn per_unit(self, fewer: Self, units: usize) -> (f64, f64) {
        let per = |more: u64, fewer: u64| (more as f64 - fewer as f64) / units as f64;
        (
            per(self.instructions, fewer.instructions),
            per(self.calls, fewer.calls),
        )
    }
}

/// Reads a baseline: a line for each cost, `NAME INSTRUCTIONS CALLS`; `#` begins a comment.
///
/// # Errors
///
/// The line that is no such line.
pub fn read_baseline(text: &str) -> Result<Vec<Cost>, String> {
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let number = |text: &str| text.parse::<f64>().ok().filter(|n| n.is_finite());
            let cost = match fields[..] {
                [name, instructions, calls] => {
                    number(instructions)
                        .zip(number(calls))
                        .map(|(instructions, calls)| Cost {
                            name: name.to_owned(),
                            instructions,
                            calls,
                        })
                }
                _ => None,
            };
            cost.ok_or_else(|| format!("`{line}` is not `NAME INSTRUCTIONS CALLS`"))
        })
        .collect()
}

/// Writes a baseline; `of` says what was measured.
#[must_use]
pub fn write_baseline(costs: &[Cost], of: &str) -> String {
    let mut text = format!(
        "# User-space instructions and system calls of weir by unit of work, against which\n\
         # `make bench-gate` compares; `make bench-gate BASELINE=write` writes it anew.\n\
         # Measured with {of}.\n"
    );
    for cost in costs {
        let _ = writeln!(
            text,
            "{:<18} {:>9.0} {:>7.2}",
            cost.name, cost.instructions, cost.calls
        );
    }
    text
}

/// The comparison as a table, and whether nothing is worse than it may be.
#[must_use]
pub fn compare(costs: &[Cost], baseline: &[Cost]) -> (String, bool) {
    let mut text = format!(
        "{:<18} {:>12} {:>9} {:>8}  {:>6} {:>6} {:>8}\n",
        "unit", "instructions", "baseline", "ratio", "calls", "base", ""
    );
    let mut is_good = true;
    for cost in costs {
        let Some(base) = baseline.iter().find(|base| base.name == cost.name) else {
            is_good = false;
            let _ = writeln!(
                text,
                "{:<18} {:>12.0}  has no baseline",
                cost.name, cost.instructions
            );
            continue;
        };
        let ratio = cost.instructions / base.instructions;
        let ratio_max = 1.0 + WORSE_PERCENT_MAX / 100.0;
        let calls_max = (base.calls * ratio_max).max(base.calls + CALLS_NOISE);
        let verdict = match (ratio > ratio_max, cost.calls > calls_max) {
            (false, false) => "",
            (true, false) => "more instructions",
            (false, true) => "more calls",
            (true, true) => "more of both",
        };
        is_good &= verdict.is_empty();
        let _ = writeln!(
            text,
            "{:<18} {:>12.0} {:>9.0} {:>8.3}  {:>6.2} {:>6.2} {verdict}",
            cost.name, cost.instructions, base.instructions, ratio, cost.calls, base.calls
        );
    }
    (text, is_good)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(instructions: f64, calls: f64) -> Cost {
        Cost {
            name: "message".to_owned(),
            instructions,
            calls,
        }
    }

    #[test]
    fn totals_are_read_from_the_log_and_the_clock_is_no_call() {
        let log = "SYSCALL[9,1](232) sys_epoll_wait ( 6, 0x4, 1024, 20 ) --> [async] ... \n\
                   SYSCALL[9,1](232) ... [async] --> Success(0x1) \n\
                   SYSCALL[9,1](228) sys_clock_gettime( 1, 0x1f )[sync] --> Success(0x0) \n\
                   SYSCALL[9,1](3) sys_close ( 8 )[sync] --> Success(0x0) \n\
                   ==9== I   refs:      11,028,480\n";
        let expected = Totals {
            instructions: 11_028_480,
            calls: 2,
        };
        assert_eq!(Totals::read(log), Some(expected));
        assert_eq!(Totals::read("SYSCALL[9,1](3) sys_close ( 8 )\n"), None);
    }

    #[test]
    fn a_unit_costs_what_more_of_them_add() {
        let fewer = Totals {
            instructions: 1_000,
            calls: 50,
        };
        let more = Totals {
            instructions: 5_000,
            calls: 90,
        };
        assert_eq!(more.per_unit(fewer, 10), (400.0, 4.0));
    }

    #[test]
    fn a_written_baseline_reads_back_and_a_bad_line_is_named() {
        let costs = vec![cost(1440.0, 4.04)];
        let text = write_baseline(&costs, "a test");
        assert_eq!(read_baseline(&text), Ok(costs));
        let error = read_baseline("message many 4").expect_err("no number");
        assert!(error.contains("message many 4"), "{error}");
    }

    #[test]
    fn up_to_two_percent_more_passes() {
        let baseline = [cost(1000.0, 4.0)];
        assert!(compare(&[cost(1019.0, 4.0)], &baseline).1);
        assert!(compare(&[cost(500.0, 2.0)], &baseline).1);
        assert!(!compare(&[cost(1021.0, 4.0)], &baseline).1);
        assert!(!compare(&[cost(1000.0, 4.1)], &baseline).1);
        assert!(!compare(&[cost(1000.0, 4.0)], &[]).1);
    }
}
