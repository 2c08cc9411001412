//! A family: the command of a job that has a child, which is left behind unless both are stopped.

use std::fs;
use std::path::Path;

/// Whether a process of this number runs, and is no zombie.
pub fn is_running(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

/// The two processes of a [`family_command`], once both have begun.
pub fn family(folder: &Path) -> Vec<String> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok().filter(|pid| pid.ends_with('\n'));
    ["parent", "child"].into_iter().filter_map(read).collect()
}

/// A command with a child that outlives it, unless both are stopped.
pub fn family_command(folder: &Path) -> String {
    let folder = folder.display();
    format!("sleep 600 & echo $! > {folder}/child; echo $$ > {folder}/parent; wait; sleep 600")
}
