//! The mesh in virtual time: nodes, clients, an operator, the network between them, the disk, and the hub's processes,
//! all from one seed.
//!
//! What runs is what production runs: the core, the service with its routes, the HTTP connections, the engine that
//! decides in which order requests are read, applied, made durable and answered, and the journal with its snapshots.
//! Replaced are sockets ([`wire`], [`network`]), the disk ([`crate::disk`]), the clock and the threads ([`process`]).
//!
//! ```text
//!  clients ┐                                   ┌─ engine ─ service ─ core
//!  nodes   ├─► network (faults) ─► wires ─► process
//!  operator┘                                   └─ journal ─► virtual disk (faults)
//!                 │ what they observed                 │ what became durable
//!                 └──────────────► oracle ◄────────────┘
//! ```
//! A run has three parts: a warm-up without faults, chaos, and a cool-down without faults in which all work must end.

pub mod admin;
pub mod client;
pub mod fault;
pub mod http;
pub mod library;
pub mod listener;
pub mod logs;
pub mod network;
pub mod node;
pub mod oracle;
pub mod page;
pub mod plan;
pub mod process;
pub mod reader;
pub mod run;
pub mod scene;
pub mod second;
pub mod shrink;
pub mod timeline;
pub mod trail;
pub mod wire;
pub mod world;
