//! Sizes: the ledger never charges less than what is held, and not much more.

mod bound;
mod driver;
mod things;

/// The counter that the benchmarks use: the one file with `unsafe`, with its proof.
#[path = "../../../bench/src/requested.rs"]
mod requested;

#[global_allocator]
static ALLOCATOR: requested::Counting = requested::Counting;
