//! The shell around the core: everything that touches a socket, a file, a clock or a thread.

pub mod audit;
pub mod cli;
pub mod client;
pub mod config;
pub mod http;
pub mod journal;
pub mod logs;
pub mod platform;
