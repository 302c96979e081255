//! Feeds any bytes to `proxy::proxy_header`.

#![no_main]

#[path = "../proxy.rs"]
mod proxy;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| proxy::proxy_header(bytes));
