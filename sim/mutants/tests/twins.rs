//! Twins: each module of mutated rules stands beside a real one, in whose place it can be compiled, and production code
//! knows of neither.
//!
//! Read as text, since one build has only one of both.

use sheratan_mutants::{Mutant, Place};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Crates whose rules have twins.
const CRATES: &[&str] = &["core", "io"];

/// The line that swaps a module for its twin.
const SWAP: &str = "#[cfg_attr(feature = \"sim-mutants\", path = \"";

#[test]
fn each_function_of_a_twin_has_the_signature_of_the_real_one() {
    let wrong: Vec<_> = twins()
        .into_iter()
        .map(|twin| (differences(&read(&twin), &read(&real_of(&twin))), twin))
        .filter(|(differences, _)| !differences.is_empty())
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_twin_that_differs_is_refused() {
    let real = "pub(crate) fn may_leave(seq: u64, durable: u64) -> bool {\n    seq <= durable\n}\n";
    let refused = |twin: &str| differences(twin, real).len();
    assert_eq!(refused(real), 0);
    assert_eq!(refused("pub(crate) fn may_leave(\n    seq: u64,\n    durable: u64,\n) -> bool {\n    true\n}\n"), 0);
    assert_eq!(refused("fn of_the_twin_alone() {}\n"), 0);
    for (what, twin) in [
        ("another name", "pub(crate) fn can_leave(seq: u64, durable: u64) -> bool { true }"),
        ("another type", "pub(crate) fn may_leave(seq: u64, durable: u32) -> bool { true }"),
        ("another order", "pub(crate) fn may_leave(durable: u64, seq: u64) -> bool { true }"),
        ("another result", "pub(crate) fn may_leave(seq: u64, durable: u64) -> Option<bool> { None }"),
        ("seen by others", "pub fn may_leave(seq: u64, durable: u64) -> bool { true }"),
        ("const", "pub(crate) const fn may_leave(seq: u64, durable: u64) -> bool { true }"),
        ("generic", "pub(crate) fn may_leave<T>(seq: u64, durable: u64) -> bool { true }"),
    ] {
        assert_eq!(refused(twin), 1, "{what}");
    }
}

#[test]
fn each_twin_is_swapped_in_once_for_the_module_that_it_wraps() {
    let mut swaps: BTreeMap<PathBuf, Vec<PathBuf>> = twins().into_iter().map(|twin| (twin, Vec::new())).collect();
    for file in sources() {
        let text = read(&file);
        let lines: Vec<_> = text.lines().collect();
        for (at, twin) in lines.iter().enumerate().filter_map(|(at, line)| Some((at, line.trim().strip_prefix(SWAP)?)))
        {
            let twin = twin.strip_suffix("\")]").unwrap_or_else(|| panic!("{}: {twin}", file.display()));
            let twin = normal(&folder_of(&file).join(twin));
            let module = lines.get(at + 1).and_then(|line| module_in(line));
            let module = module.unwrap_or_else(|| panic!("{}: no module follows the twin", file.display()));
            let wrapped = swaps.get_mut(&twin).unwrap_or_else(|| panic!("there is no {}", twin.display()));
            wrapped.push(module_file(&file, module));
        }
    }
    for (twin, wrapped) in &swaps {
        assert_eq!(*wrapped, [real_of(twin)], "{}", twin.display());
    }
    assert!(swaps.len() >= 4, "{swaps:?}");
}

#[test]
fn production_code_does_not_know_of_mutants() {
    for file in sources() {
        for line in read(&file).lines().filter(|line| !line.trim().starts_with(SWAP)) {
            assert!(!line.to_lowercase().contains("mutant"), "{}: {line}", file.display());
            assert!(!line.contains("feature = "), "{}: {line}", file.display());
        }
    }
}

#[test]
fn each_mutant_is_made_in_its_place() {
    let text_of = |files: Vec<PathBuf>| files.iter().map(|file| read(file)).collect::<String>();
    let mutated = |of: &str| text_of(rust_files(&root().join(of).join("mutated")));
    let (core, io) = (mutated("core"), mutated("io"));
    let disk = read(&root().join("sim/src/disk/mistakes.rs"));
    for mutant in Mutant::ALL {
        let text = match mutant.place() {
            Place::Core => &core,
            Place::Shell => &io,
            Place::Disk => &disk,
        };
        let name = format!("Mutant::{mutant:?}");
        let is_named =
            text.match_indices(&name).any(|(at, _)| !text[at + name.len()..].starts_with(char::is_alphanumeric));
        assert!(is_named, "{} is made nowhere in {:?}", mutant.name(), mutant.place());
    }
}

/// What of a twin does not fit to the real module: each function that is seen outside must be there with the same
/// signature.
fn differences(twin: &str, real: &str) -> Vec<String> {
    let real = signatures(real);
    signatures(twin)
        .into_iter()
        .filter(|signature| !real.contains(signature))
        .map(|signature| format!("the real module has no `{signature}`"))
        .collect()
}

/// The signatures of the functions that are seen outside of a module, each on one line.
fn signatures(text: &str) -> Vec<String> {
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let starts = (0..lines.len()).filter(|at| is_function(lines[*at]));
    starts.map(|at| signature(&lines[at..].join(" "))).collect()
}

/// Whether a function that is seen outside begins on this line: `pub`, then words in lower case up to `fn`.
fn is_function(line: &str) -> bool {
    let mut words = line.split_whitespace().take_while(|word| word.starts_with(char::is_lowercase));
    words.next().is_some_and(|word| word.starts_with("pub")) && words.any(|word| word == "fn")
}

/// From a function's start up to its body, as rustfmt writes it on one line.
fn signature(text: &str) -> String {
    let head = text.split('{').next().expect("a split has a first part");
    let words: Vec<_> = head.split_whitespace().collect();
    words.join(" ").replace("( ", "(").replace(", )", ")").replace(",)", ")").replace(" )", ")")
}

/// The module that a line declares.
fn module_in(line: &str) -> Option<&str> {
    let declaration = line.trim().strip_suffix(';')?;
    let (visibility, name) = declaration.rsplit_once("mod ")?;
    (visibility.is_empty() || visibility.starts_with("pub")).then_some(name)
}

/// The file that a module is in unless it is swapped.
fn module_file(declared_in: &Path, module: &str) -> PathBuf {
    let stem = declared_in.file_stem().expect("a source file has a name");
    let folder = folder_of(declared_in);
    let folder = if stem == "mod" || stem == "lib" { folder.to_path_buf() } else { folder.join(stem) };
    folder.join(module).with_extension("rs")
}

/// The module that a twin wraps.
fn real_of(twin: &Path) -> PathBuf {
    let text = read(twin);
    let mut after_path = text.lines().skip_while(|line| !line.starts_with("#[path = \""));
    let path = after_path.next().and_then(|line| line.split('"').nth(1));
    let path = path.unwrap_or_else(|| panic!("{} wraps no module", twin.display()));
    assert_eq!(after_path.next(), Some("mod real;"), "{}", twin.display());
    normal(&folder_of(twin).join(path))
}

fn twins() -> Vec<PathBuf> {
    CRATES.iter().flat_map(|of| rust_files(&root().join(of).join("mutated"))).collect()
}

/// All files of production code.
fn sources() -> impl Iterator<Item = PathBuf> {
    CRATES.iter().flat_map(|of| rust_files(&root().join(of).join("src")))
}

/// The source files in a folder and those below it; none if there is no folder.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files = Vec::new();
    for path in entries.map(|entry| entry.expect("a folder can be read").path()) {
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn root() -> PathBuf {
    normal(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn folder_of(file: &Path) -> &Path {
    file.parent().expect("a file is in a folder")
}

/// A path without `..`.
fn normal(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut normal, component| {
        match component {
            Component::ParentDir => _ = normal.pop(),
            component => normal.push(component),
        }
        normal
    })
}
