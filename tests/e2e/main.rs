//! weir from the outside: the real binary, real sockets on loopback, scripted peers.
//!
//! One file per feature. `WEIR_BIN` names another binary to test, such as a release build.

mod harness;

mod addresses;
mod agreement;
mod balance;
mod cli;
mod encrypted;
mod failover;
mod health;
mod installed;
mod limits;
mod privileges;
mod proxy_protocol;
mod relay;
mod reload;
mod reset;
mod shutdown;
mod statistics;
mod systemd;
mod timeouts;
