//! The deterministic simulation: the real worker over a fake network and clock.
//!
//! `rig` turns the worker by hand and checks it after every turn. `seeds` draws whole worlds of
//! accidents; `rules`, `limits`, `ends`, `health`, `opening`, `hello`, `send_proxy`, `doors`
//! (listening sockets) and `cost` are scripts, one behaviour each. `layered` is about records under
//! every connection, `handshakes` about those of TLS and `damage` about their bytes.
//! `machine` is several workers on one board, with scripts in `board` and seeds in `machines`.

mod board;
mod cost;
#[cfg(feature = "tls")]
mod damage;
mod doors;
mod ends;
#[cfg(feature = "tls")]
mod handshakes;
mod health;
mod hello;
mod layered;
mod limits;
mod machine;
mod machines;
mod model;
mod net;
mod opening;
mod over_records;
mod replay;
mod rig;
mod rules;
mod scenario;
mod seeds;
mod send_proxy;
mod steered;
