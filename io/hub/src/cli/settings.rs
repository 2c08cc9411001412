//! `sheratan-hub config`: the effective settings, and the source of each.

use super::failure::Failure;
use super::flags::Flags;
use super::terminal;
use anstyle::Style;
use sheratan_io::config::Config;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  sheratan-hub config                          the settings of `sheratan-hub serve` in this folder
  sheratan-hub config --config /etc/hub.toml   the same with another file
  sheratan-hub config --json                   as JSON; a secret is shown as the start of its SHA-256

Exit code 0, or 2 if the settings, or the command line, are invalid.";

/// The arguments.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: Flags,
}

/// Shows the settings.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let config = Config::load(&args.flags.0).map_err(|error| Failure::Usage(error.to_string()))?;
    let described = config.describe();
    if args.json {
        let member = |setting: &sheratan_io::config::Described| {
            (setting.name.to_owned(), serde_json::json!({"value": setting.value, "source": setting.source}))
        };
        terminal::json(serde_json::Value::Object(described.iter().map(member).collect()).to_string());
        return Ok(ExitCode::SUCCESS);
    }
    let width = described.iter().map(|setting| setting.value.len()).max().unwrap_or(0);
    for setting in &described {
        let style = if setting.source == "default" { Style::new().dimmed() } else { Style::new().bold() };
        terminal::line(format_args!(
            "{style}{:28} {:width$}  {}{style:#}",
            setting.name, setting.value, setting.source
        ));
    }
    Ok(ExitCode::SUCCESS)
}
