//! `sheratan-hub completions SHELL`: a script that makes a shell complete this command line.

use super::failure::Failure;
use super::terminal;
use clap_complete::Shell;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  source <(sheratan-hub completions bash)               in this shell
  sheratan-hub completions bash > ~/.local/share/bash-completion/completions/sheratan-hub
  sheratan-hub completions zsh > ~/.zfunc/_sheratan-hub
  sheratan-hub completions fish > ~/.config/fish/completions/sheratan-hub.fish
  sheratan-hub completions powershell >> $PROFILE

Exit code 0, 1 if the script cannot be written, 2 for an invalid command line.";

/// The arguments of `completions`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// Prints the script.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let mut command = super::shown();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "sheratan-hub", &mut script);
    // The generator for bash writes the name of a program with a hyphen in two ways, so that nothing below the first
    // subcommand is completed (clap-rs/clap#6421).
    let script = String::from_utf8_lossy(&script).replace("sheratan__subcmd__hub", "sheratan__hub");
    terminal::line(script.trim_end());
    Ok(ExitCode::SUCCESS)
}
