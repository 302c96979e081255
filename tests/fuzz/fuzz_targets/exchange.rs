//! Feeds any bytes to `exchange::exchange`.

#![no_main]

#[path = "../checks.rs"]
#[allow(dead_code, reason = "each target runs one of the checks")]
mod checks;
#[path = "../exchange.rs"]
#[allow(dead_code, reason = "shared with the properties, which use more")]
mod exchange;
#[path = "../../sim/net.rs"]
mod net;
#[path = "../../sim/rig.rs"]
#[allow(dead_code, reason = "shared with the simulations, which use more")]
mod rig;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| exchange::exchange(bytes));
