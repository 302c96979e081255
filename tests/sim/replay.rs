//! Runs what is drawn from seeds: as many as `WEIR_SIM_SEEDS` says, or the one of `WEIR_SIM_SEED`.

use std::env;
use std::panic::{UnwindSafe, catch_unwind, resume_unwind};

/// As many as are asked for, or else `by_default`; where one takes as long as a hundred of others,
/// `one_in` so many of those that are asked for.
pub(crate) fn each_seed(by_default: u64, one_in: u64, run: fn(u64)) {
    if let Some(seed) = number("WEIR_SIM_SEED") {
        return run(seed);
    }
    let asked = number("WEIR_SIM_SEEDS");
    for seed in 0..asked.map_or(by_default, |count| count.div_ceil(one_in)) {
        run(seed);
    }
}

/// Runs it, and says which seed it was if it fails.
pub(crate) fn told(seed: u64, run: impl FnOnce() + UnwindSafe) {
    if let Err(panic) = catch_unwind(run) {
        eprintln!("seed {seed}: replay with WEIR_SIM_SEED={seed}");
        resume_unwind(panic);
    }
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}
