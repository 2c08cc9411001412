//! The shell around the core: everything that touches a socket, a file, a clock or a thread.
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]
// These macros panic where a stream cannot be written.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod alerts;
pub mod audit;
pub mod backoff;
mod bytes;
pub mod config;
pub mod disk;
pub mod http;
pub mod integrity;
pub mod journal;
pub mod logs;
mod object;
pub mod platform;
pub mod policy_files;
pub mod redact;
pub mod result_keys;
pub mod rfc3339;
pub mod rotated;
pub mod secret;
pub mod service;
pub mod shared_token;
pub mod shell;
pub mod stall;
mod thread;
pub mod token;
pub mod trace;
