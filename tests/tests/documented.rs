//! The commands that the documentation names are commands of the binary, with the flags that they have there; and the
//! runbook has every event of the audit log.
#![cfg(unix)]
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use sheratan_tests::{Run, binary};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Commands that texts name without the program.
const SHORT: [&str; 9] = ["jobs", "dlq", "kinds", "weights", "nodes", "orphans", "audit", "journal", "serve"];

/// The arguments of the commands on a page: in its blocks, and between backquotes, where a command may go on in the next
/// line.
fn commands(page: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (number, part) in page.split("```").enumerate() {
        let part = if number % 2 == 1 { part.to_owned() } else { part.replace('\n', " ") };
        let texts: Vec<_> = match number % 2 {
            1 => part.lines().flat_map(|line| line.split('|')).filter_map(|text| of_program(text.trim())).collect(),
            _ => part.split('`').skip(1).step_by(2).filter_map(|text| of_program(text).or(short(text))).collect(),
        };
        // Without what a shell does with its output.
        let args = texts.iter().map(|text| text.split(['#', '|', '>']).next().unwrap_or_default().trim().to_owned());
        found.extend(args);
    }
    found
}

fn of_program(text: &str) -> Option<&str> {
    text.strip_prefix("sheratan-hub ")
}

/// A command without the program, such as `nodes resume` or `serve --accept-clock`.
fn short(text: &str) -> Option<&str> {
    let (name, rest) = text.split_once(' ')?;
    let is_word = |word: &str| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    (SHORT.contains(&name) && rest.split(' ').next().is_some_and(is_word)).then_some(text)
}

#[test]
fn each_command_of_the_pages_is_one_of_the_program() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = docs.filter(|path| path.extension().is_some_and(|end| end == "md")).chain([root.join("README.md")]);
    let mut seen = 0;
    for page in pages {
        for line in commands(&fs::read_to_string(&page).unwrap()) {
            // A help is shown only if all that stands before it is understood.
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("\"$0\" {line} --help")]).arg(binary());
            let run = Run::from(shell.output().unwrap());
            assert_eq!(run.code, Some(0), "{}: sheratan-hub {line}: {}", page.display(), run.stderr);
            seen += 1;
        }
    }
    assert!(seen > 50, "{seen} commands were found");
}

#[test]
fn the_runbook_has_every_event_of_the_audit_log() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let runbook = fs::read_to_string(root.join("docs/runbook.md")).unwrap();
    let source = fs::read_to_string(root.join("io/src/service/notifications/audit.rs")).unwrap();
    let is_letter = |byte: u8| byte.is_ascii_uppercase() || byte == b'_';
    let events = source.split('"').filter(|text| text.contains('_') && text.bytes().all(is_letter));
    let events: BTreeSet<_> = events.collect();
    assert!(events.len() > 20, "{} events were found", events.len());
    let missing: Vec<_> = events.iter().filter(|event| !runbook.contains(&format!("`{event}`"))).collect();
    assert!(missing.is_empty(), "not in the runbook: {missing:?}");
}
