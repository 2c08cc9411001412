//! The deterministic core of Sheratan Hub: one state machine that is given the time.
//!
//! [`hub::Hub`] is the machine and says how to drive it; the other rooms hold one noun each. [`telemetry`] counts what
//! happens and [`alerts`] finds bursts in it: both decide nothing.
#![forbid(unsafe_code)]

pub mod access;
pub mod alerts;
pub mod command;
mod context;
pub mod dedup;
pub mod effect;
pub mod hub;
pub mod ids;
pub mod integrity;
pub mod limits;
pub mod mutants;
pub mod name;
pub mod outcome;
pub mod payload;
pub mod queue;
pub mod registry;
pub mod snapshot;
pub mod telemetry;
pub mod time;
mod timers;
