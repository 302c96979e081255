//! Feeds any bytes to `configuration::configuration`.

#![no_main]

#[path = "../configuration.rs"]
mod configuration;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| configuration::configuration(bytes));
