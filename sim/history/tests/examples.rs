//! What the manuals and the regressions say happens as they say it. With `UPDATE_HISTORIES=1` the regressions' answers
//! are rewritten, to be read as a diff.
#![allow(clippy::disallowed_methods, reason = "a test reads its files and its environment")]

use sheratan_history::Histories;
use std::path::Path;

/// Plays all histories of a text; what is not as it is written.
fn wrong_lines(text: &str) -> Vec<String> {
    let histories = Histories::parse(text).unwrap_or_else(|error| panic!("{error}"));
    assert!(!histories.sections.is_empty(), "there is a history");
    let mut wrong = Vec::new();
    for history in &histories.sections {
        let (answers, end) = history.play();
        let pairs = history.entries().zip(answers).filter(|(entry, answer)| entry.expected() != answer);
        wrong.extend(pairs.map(|(entry, answer)| format!("{}: {} -> {answer}", history.title, entry.text)));
        wrong.extend(end.err().map(|error| format!("{}: {error}", history.title)));
    }
    wrong
}

#[test]
fn the_examples_of_the_manuals_happen_as_they_are_written() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in ["src/lib.rs", "../../docs/histories.md"] {
        let text = std::fs::read_to_string(root.join(file)).expect("a manual can be read");
        let text: String =
            text.lines().map(|line| line.trim_start_matches("//!").trim_start().to_owned() + "\n").collect();
        let blocks: Vec<_> =
            text.split("```text\n").skip(1).map(|rest| rest.split("```").next().unwrap_or("")).collect();
        let examples: Vec<_> = blocks.into_iter().filter(|block| block.starts_with("== ")).collect();
        assert!(!examples.is_empty(), "{file} has an example");
        for example in examples {
            assert_eq!(wrong_lines(example), [""; 0], "{file}");
        }
    }
}

/// The text with the answers that are given.
fn updated(text: &str) -> String {
    let mut histories = Histories::parse(text).unwrap_or_else(|error| panic!("{error}"));
    histories.sections.iter_mut().for_each(|history| history.expect(history.play().0));
    histories.to_string()
}

#[test]
fn every_regression_of_the_model_check_happens_as_it_is_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../regressions");
    let is_update = std::env::var_os("UPDATE_HISTORIES").is_some();
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the folder of regressions is there") {
        let path = entry.expect("its entries can be read").path();
        if path.extension().is_none_or(|ending| ending != "txt") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a regression can be read");
        if is_update {
            std::fs::write(&path, updated(&text)).expect("a regression can be written");
        } else {
            assert_eq!(wrong_lines(&text), [""; 0], "{}", path.display());
        }
        count += 1;
    }
    assert!(count > 0, "there are regressions");
}
