//! The simulator's command line: what it prints and how it exits.

// The real program is run.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::path::Path;
use std::process::{Command, Output};

/// `sheratan-sim model` with these arguments.
fn model(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sheratan-sim")).arg("model").args(arguments).output().expect("the simulator runs")
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("its output is text")
}

#[test]
fn a_run_as_json_is_one_object_with_the_digest_that_the_text_has() {
    let json = model(&["run", "--seed", "3", "--steps", "100", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&json.stdout).expect("one JSON object");
    assert_eq!((json.status.code(), &report["ok"], &report["seed"]), (Some(0), &true.into(), &3.into()));
    let digest = report["digest"].as_str().expect("a digest in hex");
    assert_eq!(digest.len(), 64);
    let plain = text(&model(&["run", "--seed", "3", "--steps", "100"]));
    assert!(plain.contains(digest), "{plain}");
}

#[test]
fn the_steps_of_a_verbose_run_are_a_history() {
    let verbose = text(&model(&["run", "--seed", "3", "--steps", "50", "--verbose"]));
    let steps = verbose.lines().filter_map(|line| {
        let (number, step) = line.split_once(": ")?;
        number.parse::<u64>().ok().map(|_| step)
    });
    let history = format!("== Seed 3.\nkey 3\n{}\n", steps.collect::<Vec<_>>().join("\n"));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let file = folder.join("seed-3.txt");
    std::fs::write(&file, &history).expect("the target's folder can be written");
    let replayed = model(&["replay", &file.display().to_string()]);
    assert!(history.lines().count() > 52, "{history}");
    assert_eq!(replayed.status.code(), Some(0), "{}", text(&replayed));
}

#[test]
fn a_check_sums_up_its_seeds() {
    let checked = model(&["check", "--seeds", "10..15", "--steps", "50", "--jobs", "2", "--verbose"]);
    let said = text(&checked);
    assert_eq!(checked.status.code(), Some(0), "{said}");
    assert!(said.starts_with("5 seeds well"), "{said}");
    assert!(said.contains("submitted: accepted"), "{said}");
}

#[test]
fn arguments_that_mean_nothing_are_refused_by_name() {
    let wrong = model(&["check", "--seeds", "9..3"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("`9..3` is not a range of seeds"));
}

#[test]
fn a_history_that_cannot_be_read_fails_and_is_named() {
    let missing = model(&["replay", "/nowhere/at-all.txt"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing).contains("/nowhere/at-all.txt: cannot be read"), "{}", text(&missing));
}

#[test]
fn a_seed_that_is_well_cannot_be_shrunk() {
    let shrunk = model(&["shrink", "--seed", "3", "--steps", "20"]);
    assert_eq!(shrunk.status.code(), Some(1));
    assert!(text(&shrunk).contains("does not fail"), "{}", text(&shrunk));
}

#[cfg(not(feature = "sim-mutants"))]
#[test]
fn without_mutants_the_command_says_how_to_build_them_in() {
    let hunted = Command::new(env!("CARGO_BIN_EXE_sheratan-sim")).arg("mutants").output().expect("the simulator runs");
    assert_eq!(hunted.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&hunted.stderr).contains("--features sim-mutants"));
}

#[cfg(feature = "sim-mutants")]
#[test]
fn a_hunted_mutant_is_reported_with_its_seed_and_its_violation() {
    let hunt = |more: &[&str]| {
        let arguments = [&["mutants", "--only", "retry-delay-ignored", "--jobs", "1"], more].concat();
        Command::new(env!("CARGO_BIN_EXE_sheratan-sim")).args(arguments).output().expect("the simulator runs")
    };
    let json = hunt(&["--json"]);
    let report: serde_json::Value = serde_json::from_slice(&json.stdout).expect("one JSON object");
    let row = &report["mutants"][0];
    assert_eq!((json.status.code(), &report["ok"], &row["by"]), (Some(0), &true.into(), &"model".into()));
    assert!(row["what"].as_str().is_some_and(|what| what.starts_with("step ")), "{row}");
    let plain = text(&hunt(&[]));
    assert!(plain.contains("retry-delay-ignored") && plain.contains("1 found, 0 missed"), "{plain}");
}
