//! Feeds any bytes to `hello::client_hello`.

#![no_main]

#[path = "../hello.rs"]
mod hello;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hello::client_hello(bytes));
