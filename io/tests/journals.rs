//! The journals of earlier builds are replayed to their recorded digests. `kept/mod.rs` makes such a journal.
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods)]

mod kept;

use std::fs;
use std::path::{Path, PathBuf};

/// `io/tests/journals/*/`.
fn kept_folders() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/journals");
    let entries = fs::read_dir(folder).expect("the folder of kept journals exists");
    let paths = entries.map(|entry| entry.expect("the folder can be listed").path());
    let mut folders: Vec<_> = paths.filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

#[test]
fn every_kept_journal_replays_to_its_digest() {
    assert!(!kept_folders().is_empty());
    let problems: Vec<_> = kept_folders().iter().filter_map(|folder| kept::check(folder).err()).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn the_check_of_a_kept_journal_compares_digest_outcome_hash_and_records() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("now");
    kept::keep(&folder).unwrap();
    kept::check(&folder).unwrap();
    let digest = folder.join("digest");
    let whole = fs::read_to_string(&digest).unwrap();
    for line in whole.lines() {
        let other = format!("{}{}", &line[..line.len() - 1], if line.ends_with('0') { '1' } else { '0' });
        fs::write(&digest, whole.replace(line, &other)).unwrap();
        let error = kept::check(&folder).unwrap_err();
        assert!(error.contains(&other) && error.contains(line), "{error}");
    }
}

#[test]
fn two_kept_journals_of_one_build_have_equal_bytes() {
    let scratch = tempfile::tempdir().unwrap();
    let [one, other] = ["one", "other"].map(|name| scratch.path().join(name));
    [&one, &other].into_iter().for_each(|folder| kept::keep(folder).unwrap());
    for name in ["journal", "snapshots"] {
        let files: Vec<_> = fs::read_dir(one.join(name)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(!files.is_empty());
        for file in files {
            let [bytes, others] = [&one, &other].map(|folder| fs::read(folder.join(name).join(&file)).unwrap());
            assert!(bytes == others, "{}", file.display());
        }
    }
}
