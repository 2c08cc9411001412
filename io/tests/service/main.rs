//! The service through its public interface and the real HTTP connection, without a socket: every interleaving can be
//! written down.

mod event_streams;
mod long_polls;
mod metrics;
mod reads;
mod scene;
