//! Start-up order only: arguments, configuration, log, then the worker or a check.

fn main() {}
