//! Completions and man pages, as a real shell and a real `man` take them.
#![cfg(unix)]
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use sheratan_tests::tools::tool;
use sheratan_tests::{Run, binary, run};
use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// What bash offers for the last word of a command line, with a script of completions.
fn offered(bash: &Path, script: &Path, line: &[&str]) -> Vec<String> {
    let words = line.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
    // What readline does when somebody presses the tab key.
    let program = format!(
        "source '{}'\n\
         spec=$(complete -p sheratan-hub) && function=$(sed 's/.*-F \\([^ ]*\\).*/\\1/' <<<\"$spec\")\n\
         COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMP_LINE=\"${{COMP_WORDS[*]}}\"\n\
         COMP_POINT=${{#COMP_LINE}}\n\
         $function sheratan-hub \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"\n\
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        script.display()
    );
    let output = Command::new(bash).args(["--norc", "--noprofile", "-c", &program]).output().unwrap();
    assert!(output.status.success(), "{line:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_flags_and_words() {
    let Some(bash) = tool("bash", "bash") else { return };
    let script = run(&["completions", "bash"]);
    assert_eq!(script.code, Some(0), "{}", script.stderr);
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("sheratan-hub.bash");
    fs::write(&file, &script.stdout).unwrap();
    let offered = |line: &[&str]| offered(&bash, &file, line);
    assert_eq!(offered(&["sheratan-hub", "dl"]), ["dlq"]);
    assert_eq!(offered(&["sheratan-hub", "dlq", "acts", "c"]), ["cancel"]);
    assert_eq!(offered(&["sheratan-hub", "dlq", "requeue", "--dry"]), ["--dry-run"]);
    assert_eq!(offered(&["sheratan-hub", "kinds", "set", "--max-inf"]), ["--max-inflight"]);
    assert_eq!(offered(&["sheratan-hub", "weights", "set", "--rep"]), ["--replace"]);
    assert_eq!(offered(&["sheratan-hub", "jobs", "list", "--status", "can"]), ["cancelled"]);
    let shown = offered(&["sheratan-hub", ""]);
    assert!(shown.contains(&"serve".to_owned()) && !shown.contains(&"demo-exec".to_owned()), "{shown:?}");
}

#[test]
fn each_shell_has_a_script_and_another_is_refused() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = run(&["completions", shell]);
        assert_eq!(script.code, Some(0), "{shell}: {}", script.stderr);
        assert!(script.stdout.contains("requeue"), "{shell}");
    }
    let refused = run(&["completions", "cmd"]);
    assert_eq!((refused.code, refused.stderr.contains("bash")), (Some(2), true), "{}", refused.stderr);
}

/// The commands below these words, and those below them, as the helps list them.
fn commands(words: &[String]) -> Vec<Vec<String>> {
    let args: Vec<_> = words.iter().map(String::as_str).chain(["--help"]).collect();
    let help = run(&args).stdout;
    let listed = help.split("Commands:\n").nth(1).unwrap_or_default().split("\n\n").next().unwrap_or_default();
    // A name is indented by two; the lines that its text wraps to by more.
    let names = listed.lines().filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with(' '));
    let below = names.filter_map(|line| line.split(' ').next()).filter(|name| *name != "help");
    let below = below.flat_map(|name| commands(&[words, &[name.to_owned()]].concat()));
    [words.to_vec()].into_iter().chain(below).collect()
}

#[test]
fn each_command_has_a_page_and_man_renders_it() {
    let folder = TempDir::new().unwrap();
    let man1 = folder.path().join("share/man1");
    let written = run(&["man", man1.to_str().unwrap()]);
    assert_eq!(written.code, Some(0), "{}", written.stderr);
    let mut pages: Vec<_> =
        fs::read_dir(&man1).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    pages.sort();
    let mut expected: Vec<_> = commands(&[])
        .iter()
        .map(|words| [&["sheratan-hub".to_owned()], words.as_slice()].concat().join("-") + ".1")
        .collect();
    expected.sort();
    assert_eq!(pages, expected);
    let Some(man) = tool("man", "man-db groff-base") else { return };
    for page in pages {
        let mut man = Command::new(&man);
        man.args(["--warnings", "-l"]).arg(man1.join(&page)).env("MANPAGER", "cat").env("MANWIDTH", "100");
        let shown = Run::from(man.env("LC_ALL", "C.UTF-8").output().unwrap());
        assert_eq!((shown.code, shown.stderr.as_str()), (Some(0), ""), "{page}");
        assert!(shown.stdout.contains("SYNOPSIS") && shown.stdout.contains("EXAMPLES"), "{page}: {}", shown.stdout);
        // As it was written, to be copied.
        let example = "  sheratan-hub dlq requeue --error timeout --rate 50    all of them, 50 a second\n";
        assert!(!page.contains("dlq") || shown.stdout.contains(example), "{page}: {}", shown.stdout);
    }
}

#[test]
fn pages_that_cannot_be_written_say_why() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let refused = run(&["man", file.join("man1").to_str().unwrap()]);
    assert_eq!(
        (refused.code, refused.stderr.contains("pages cannot be written to")),
        (Some(1), true),
        "{}",
        refused.stderr
    );
    assert!(binary().exists());
}
