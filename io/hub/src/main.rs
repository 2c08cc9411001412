//! `sheratan-hub`: the command line.

/// A request is a dozen small allocations that live until its reply is written.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    sheratan_hub::cli::run()
}
