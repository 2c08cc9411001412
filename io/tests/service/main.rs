//! The service through its public interface and the real HTTP connection, without a socket: every interleaving can be
//! written down.

mod attestation;
mod engine;
mod event_streams;
mod identity;
mod integrity;
mod journal_fails;
mod lists;
mod long_polls;
mod metrics;
mod overload;
mod reads;
mod results;
mod scene;
mod sockets;
mod strangers;
mod troubles;
mod unsent;
