//! `sheratan-hub man FOLDER`: a page for `man` of each command.

use super::failure::Failure;
use super::terminal;
use std::io;
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
fn write(command: &clap::Command, folder: &Path) -> io::Result<usize> {
    let man = clap_mangen::Man::new(command.clone());
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(text) = command.get_after_help() {
        page.extend_from_slice(extra(&text.to_string()).as_bytes());
    }
    std::fs::write(folder.join(man.get_filename()), page)?;
    command.get_subcommands().map(|command| write(command, folder)).try_fold(1, |pages, written| Ok(pages + written?))
}

/// The end of a help: its examples as they are, a line each, and then its paragraphs.
fn extra(text: &str) -> String {
    let mut parts = text.split("\n\n");
    let examples = parts.next().unwrap_or_default().trim_start_matches("Examples:\n");
    let examples = format!(".SH EXAMPLES\n.nf\n{}\n.fi\n", escaped(examples));
    let notes: String = parts.map(|part| format!(".PP\n{}\n", escaped(part))).collect();
    if notes.is_empty() { examples } else { format!("{examples}.SH NOTES\n{notes}") }
}

/// A text in which `roff` finds no requests: a backslash begins one, as does a dot or a quote at the start of a line. A
/// hyphen stays one that can be copied.
fn escaped(text: &str) -> String {
    let line = |line: &str| {
        let line = line.replace('\\', "\\e").replace('-', "\\-");
        if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line }
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_keep_their_lines_and_hold_no_requests() {
        let text = "Examples:\n  a --b 'c\\d'\n.e\n\nIt is so.\n'f'";
        let expected = ".SH EXAMPLES\n.nf\n  a \\-\\-b 'c\\ed'\n\\&.e\n.fi\n.SH NOTES\n.PP\nIt is so.\n\\&'f'\n";
        assert_eq!(extra(text), expected);
    }
}
