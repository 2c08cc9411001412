//! The black-box tests' tools: a hub as a process of its own on free ports and a temporary data folder, and a client.
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod alter;
pub mod bundle;
pub mod client;
#[cfg(unix)]
pub mod family;
pub mod hub;
pub mod leak;
pub mod prometheus;
pub mod proxy;
pub mod shim;
#[cfg(target_os = "linux")]
pub mod stall;
#[cfg(unix)]
pub mod streams;
pub mod tools;
pub mod work;
#[cfg(unix)]
pub mod worker;

pub use bundle::Bundle;
pub use client::{Client, Event, Events, Response};
pub use hub::{Hub, Options, Run, binary, command, run, sim, until};
pub use proxy::{Fault, Proxy};
#[cfg(unix)]
pub use worker::Worker;
