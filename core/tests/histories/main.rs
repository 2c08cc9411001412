//! The histories of this folder: each section of a text file is a sentence and the history that proves it.
//!
//! `UPDATE_HISTORIES=1 cargo test -p sheratan-core --test histories` writes what the hub answers into the files, to be
//! read as a diff. The language is `sheratan_history`'s.
#![allow(clippy::disallowed_methods, reason = "a test reads its files and its environment")]

use sheratan_history::{Histories, History};
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/histories");
    let entries = std::fs::read_dir(folder).expect("the folder of histories is there");
    let paths = entries.map(|entry| entry.expect("its entries can be read").path());
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|ending| ending == "txt")).collect();
    paths.sort();
    paths
}

/// The differences from the expected answers as lines of a diff; empty if there are none.
fn differences(history: &History, answers: &[String], end: Result<(), String>) -> String {
    let mut text = String::new();
    for (entry, answer) in history.entries().zip(answers).filter(|(entry, answer)| entry.expected() != *answer) {
        let (number, input, expected) = (entry.number, &entry.text, entry.expected());
        write!(text, "  line {number}: {input}\n    - {expected}\n    + {answer}\n")
            .expect("writing to a string cannot fail");
    }
    if let Err(error) = end {
        writeln!(text, "  at its end: {error}").expect("writing to a string cannot fail");
    }
    text
}

#[test]
fn every_history_is_answered_as_it_is_written() {
    let is_update = std::env::var_os("UPDATE_HISTORIES").is_some();
    let (mut wrong, mut titles) = (String::new(), Vec::new());
    for path in files() {
        let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).expect("a text file can be read");
        let mut histories = Histories::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!histories.sections.is_empty(), "{name} has no history");
        for history in &mut histories.sections {
            assert!(!titles.contains(&history.title), "{name}: `{}` is there twice", history.title);
            titles.push(history.title.clone());
            let played = catch_unwind(AssertUnwindSafe(|| history.play()));
            let (answers, end) = played.unwrap_or_else(|_| panic!("{name}: `{}` stopped the hub", history.title));
            if is_update {
                let difference = differences(history, &[], end);
                assert!(difference.is_empty(), "{name}: {}\n{difference}", history.title);
                history.expect(answers);
                continue;
            }
            let difference = differences(history, &answers, end);
            if !difference.is_empty() {
                writeln!(wrong, "{name}:{}: {}\n{difference}", history.number, history.title)
                    .expect("writing to a string cannot fail");
            }
        }
        let updated = histories.to_string();
        if is_update && updated != text {
            std::fs::write(&path, updated).expect("a text file can be written");
        } else {
            assert_eq!(updated, text, "{name} is not written as it would be printed");
        }
    }
    assert!(titles.len() > 50, "only {} histories are there", titles.len());
    assert!(wrong.is_empty(), "\n{wrong}");
}
