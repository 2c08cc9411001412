//! `sheratan-hub`: the command line.

fn main() -> std::process::ExitCode {
    sheratan_io::cli::run()
}
