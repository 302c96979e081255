//! Limits and CPU affinity of this process.

use std::io;

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity, set_name};

/// Raises the soft limit of open descriptors to the hard one, and returns it
/// (`u64::MAX` when there is none).
///
/// # Errors
/// When the kernel refuses; the old limit then stays.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        setrlimit(Resource::Nofile, raised)?;
    }
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// Keeps the memory of this process from core dumps and from others of its user, until it becomes
/// another program (`PR_SET_DUMPABLE`, prctl(2)): it holds keys. What /proc shows of it to
/// everybody stays so.
pub fn hide_memory() {
    // The kernel knows it since before any that weir runs on.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Gives this process the name that process lists show, where it was started under another one.
pub fn name_process() {
    // Nothing depends on it.
    let _ = set_name(c"weir");
}

/// Binds the calling thread, and what it starts from now on, to one CPU.
///
/// # Errors
/// `InvalidInput` when there is no such CPU, or it is not among the allowed ones.
pub fn pin_to_cpu(cpu: usize) -> io::Result<()> {
    if cpu >= CpuSet::MAX_CPU {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

/// Whether [`pin_to_cpu`] would do: it is tried and undone.
///
/// # Errors
/// What [`pin_to_cpu`] reports.
pub fn may_pin_to_cpu(cpu: usize) -> io::Result<()> {
    let before = sched_getaffinity(None)?;
    pin_to_cpu(cpu)?;
    Ok(sched_setaffinity(None, &before)?)
}

/// The limit to which [`raise_descriptor_limit`] would raise; `u64::MAX` when there is none.
#[must_use]
pub fn descriptor_limit() -> u64 {
    getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX)
}

/// Bytes of addresses that a process may have (`RLIMIT_AS`, getrlimit(2)); none without a limit.
#[must_use]
pub fn address_space_limit() -> Option<u64> {
    getrlimit(Resource::As).current
}

/// The CPUs that the calling thread may run on, in rising order.
///
/// # Errors
/// When the kernel does not say.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|&cpu| set.is_set(cpu))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_of_descriptors_becomes_the_hard_one() {
        let raised = raise_descriptor_limit().expect("raised");
        let now = getrlimit(Resource::Nofile);
        assert_eq!(now.current.unwrap_or(u64::MAX), raised);
        assert_eq!(now.current, now.maximum);
    }

    #[test]
    fn a_pinned_thread_is_allowed_on_one_cpu_only() {
        // Each test has a thread of its own, so no other test is pinned by this.
        let cpu = *allowed_cpus().expect("known").last().expect("at least one");
        pin_to_cpu(cpu).expect("pinned");
        assert_eq!(allowed_cpus().expect("known"), [cpu]);
    }

    #[test]
    fn to_try_a_cpu_changes_nothing() {
        let before = allowed_cpus().expect("known");
        may_pin_to_cpu(before[0]).expect("allowed");
        assert_eq!(allowed_cpus().expect("known"), before);
        may_pin_to_cpu(CpuSet::MAX_CPU - 1).expect_err("no machine has so many");
        assert_eq!(allowed_cpus().expect("known"), before);
    }

    #[test]
    fn a_cpu_that_cannot_exist_is_refused() {
        let error = pin_to_cpu(usize::MAX).expect_err("no such CPU");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
