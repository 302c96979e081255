//! Measures weir beside its peers: see README.md.
//!
//! [`engine`] makes the load and checks the answers, [`workload`] names what it can do, and the
//! rest runs peers, takes their figures and shows them.
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

pub mod certificates;
pub mod chart;
pub mod engine;
pub mod gate;
pub mod histogram;
pub mod pattern;
pub mod peers;
pub mod process;
pub mod report;
pub mod results;
pub mod runner;
pub mod settings;
pub mod stats;
pub mod sys;
pub mod syscalls;
pub mod tls;
pub mod workload;
