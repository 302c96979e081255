//! What the environment asks of a run.

use std::time::Duration;

use crate::peers::{self, Peer};
use crate::workload::{self, Workload};

/// A run, as asked for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `BENCH`: workloads, all by default.
    pub workloads: Vec<Workload>,
    /// `PEERS`: rows, all by default.
    pub peers: Vec<Peer>,
    /// `REPEAT`: how often each cell is run, 1 to 100.
    pub repeat: usize,
    /// `DURATION` (or `SECONDS_PER_RUN`): length of one measurement in seconds, 0.1 to 60.
    pub duration: Duration,
    /// `IDLE`: idle connections, 1 to 100,000; the descriptor limit may allow fewer.
    pub idle_connections: usize,
    /// `SYSCALLS=0` leaves out the counting of system calls.
    pub count_syscalls: bool,
}

impl Settings {
    /// Reads them through `variable`, which gives the value of an environment variable.
    ///
    /// # Errors
    ///
    /// A value that is not understood, with what is allowed.
    pub fn read(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        let variable = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let seconds = variable("DURATION").or_else(|| variable("SECONDS_PER_RUN"));
        let seconds: f64 = number("DURATION", seconds, 2.0, 0.1, 60.0)?;
        Ok(Self {
            workloads: chosen("BENCH", variable("BENCH"), workload::ALL, |w| w.name)?,
            peers: chosen("PEERS", variable("PEERS"), peers::ALL, |p| p.name)?,
            repeat: number("REPEAT", variable("REPEAT"), 3, 1, 100)?,
            duration: Duration::from_secs_f64(seconds),
            idle_connections: number("IDLE", variable("IDLE"), 10_000, 1, 100_000)?,
            count_syscalls: variable("SYSCALLS").is_none_or(|value| value != "0"),
        })
    }
}

fn number<T>(name: &str, value: Option<String>, default: T, min: T, max: T) -> Result<T, String>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let Some(value) = value else {
        return Ok(default);
    };
    let number = value
        .trim()
        .parse()
        .ok()
        .filter(|n| (&min..=&max).contains(&n));
    number.ok_or_else(|| format!("{name}={value}: must be a number from {min} to {max}"))
}

/// The items whose names, or whose names' beginnings up to a hyphen, are listed; weir is always
/// among peers, because the others are compared with it.
fn chosen<T: Copy>(
    variable: &str,
    value: Option<String>,
    all: &[T],
    name: impl Fn(&T) -> &'static str,
) -> Result<Vec<T>, String> {
    let Some(value) = value.filter(|value| value.trim() != "all") else {
        return Ok(all.to_vec());
    };
    let words: Vec<&str> = value
        .split([' ', ','])
        .filter(|word| !word.is_empty())
        .collect();
    let matches = |item: &T, word: &str| {
        let name = name(item);
        name == word || matches!(word, "l4" | "l7" | "tls") && name.starts_with(word)
    };
    if let Some(unknown) = words
        .iter()
        .find(|word| !all.iter().any(|item| matches(item, word)))
    {
        let names: Vec<&str> = all.iter().map(name).collect();
        return Err(format!(
            "{variable}: unknown `{unknown}`; known are {}",
            names.join(" ")
        ));
    }
    let is_chosen = |item: &&T| {
        let always = variable == "PEERS" && name(item) == "weir";
        always || words.iter().any(|word| matches(item, word))
    };
    Ok(all.iter().filter(is_chosen).copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Settings, String> {
        Settings::read(&|name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn weir_is_measured_beside_every_choice_of_peers() {
        let settings = read(&[("PEERS", "nginx haproxy")]).expect("both are known");
        let names: Vec<_> = settings.peers.iter().map(|p| p.name).collect();
        assert_eq!(names, ["weir", "nginx", "haproxy"]);
    }

    #[test]
    fn an_unknown_workload_is_refused_with_the_known_ones() {
        let message = read(&[("BENCH", "l7-keepalife")]).expect_err("no such workload");
        assert!(message.contains("l7-keepalive"), "{message}");
    }

    #[test]
    fn a_number_out_of_range_is_refused() {
        assert!(read(&[("REPEAT", "0")]).is_err());
        assert!(read(&[("DURATION", "NaN")]).is_err());
    }
}
