//! Counts the steps of a search in unit tests, where time would be no fair measure of its growth.

/// One comparison, one place looked at, or one node visited. Nothing, outside of tests.
#[inline(always)]
pub(super) fn step() {
    #[cfg(test)]
    count::add();
}

#[cfg(test)]
pub(super) use count::of;

#[cfg(test)]
mod count {
    use std::cell::Cell;

    thread_local! {
        static STEPS: Cell<u64> = const { Cell::new(0) };
    }

    pub(super) fn add() {
        STEPS.set(STEPS.get() + 1);
    }

    /// How many steps this thread takes meanwhile.
    pub(in super::super) fn of(what: impl FnOnce()) -> u64 {
        let before = STEPS.get();
        what();
        STEPS.get() - before
    }
}
