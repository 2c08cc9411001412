//! What the manuals say happens as they say it.

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
