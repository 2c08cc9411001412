//! Makes a journal of this build, which later builds must replay: `cargo run -p sheratan-io --example keep_journal --
//! io/tests/journals/NAME`. Set `SHERATAN_BUILD` to the commit, so that its headers name the build.
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods)]

#[path = "../tests/kept/mod.rs"]
mod kept;

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let (Some(folder), None) = (args.next().map(PathBuf::from), args.next()) else {
        eprintln!("expected one argument: the folder to make, such as io/tests/journals/NAME");
        return ExitCode::from(2);
    };
    let kept = kept::keep(&folder).map_err(|error| format!("{}: {error}", folder.display()));
    match kept.and_then(|()| kept::check(&folder)) {
        Ok(()) => {
            println!("{} is kept", folder.display());
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}
