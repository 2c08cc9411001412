//! `sheratan-hub man FOLDER`: a page for `man` of each command.

use super::failure::Failure;
use super::terminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  sheratan-hub man ~/.local/share/man/man1             then: man sheratan-hub, man sheratan-hub-dlq-requeue
  sheratan-hub man . && man ./sheratan-hub-jobs.1

Exit code 0, 1 if the pages cannot be written, 2 for an invalid command line.";

/// The arguments of `man`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Folder that the pages are written to; it is made if it does not exist
    folder: PathBuf,
}

/// Writes the pages.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let folder = &args.folder;
    let failed = |error| Failure::local(format!("pages cannot be written to {}", folder.display()), error);
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut command = super::shown().disable_help_subcommand(true);
    // It makes the names of the pages, `sheratan-hub-jobs-list`.
    command.build();
    let pages = write(&command, folder).map_err(failed)?;
    terminal::line(format_args!("{pages} pages are in {}", terminal::printable(&folder.to_string_lossy())));
    Ok(ExitCode::SUCCESS)
}

/// Writes the page of a command and those of its subcommands; returns how many.
fn write(command: &clap::Command, folder: &Path) -> std::io::Result<usize> {
    let mut page = Vec::new();
    let man = clap_mangen::Man::new(command.clone());
    man.render(&mut page)?;
    std::fs::write(folder.join(man.get_filename()), page)?;
    command.get_subcommands().map(|command| write(command, folder)).try_fold(1, |pages, written| Ok(pages + written?))
}
