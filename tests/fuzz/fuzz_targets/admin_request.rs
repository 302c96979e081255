//! Feeds any bytes to `admin::admin_request`.

#![no_main]

#[path = "../admin.rs"]
mod admin;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| admin::admin_request(bytes));
