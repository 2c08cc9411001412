//! The command line of Sheratan Hub, and its HTTP client.
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]
// These macros panic where a stream cannot be written; `cli::terminal` does not.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod cli;
pub mod client;
pub mod hub_addr;
pub mod platform;
