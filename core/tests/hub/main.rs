//! The hub through its public interface: its guarantees to clients and nodes. Here are grids of values, properties and
//! large numbers; what can be written as a history is in `tests/histories`.

mod bounds;
mod capacity;
mod clients;
mod damaged_snapshots;
mod ends;
mod idempotency;
mod inflight;
mod integrity;
mod leases;
mod order;
mod policies;
mod replay;
mod reserved;
mod room;
mod scan;
mod scene;
mod telemetry;
mod waiters;
