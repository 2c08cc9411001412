//! Another commit's build: its tree in a git worktree that is removed when the run ends, and cargo run in it.

use crate::child::{Errors, run};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::terminal::note;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A commit of the repository that the current folder is in.
pub struct Commit {
    repository: PathBuf,
    hash: String,
}

/// The tree of a commit, in a folder of its own.
struct Checkout<'a> {
    commit: &'a Commit,
    /// The worktree is the folder `tree` in it.
    folder: TempDir,
}

/// How many digits of a hash are shown.
const HASH_DIGITS_SHOWN: usize = 9;
/// Of cargo's package and of its binary.
const BENCH: &str = "sheratan-bench";

impl Commit {
    /// Finds a commit by a name that git accepts, as in `HEAD~3`.
    pub fn find(name: &str, interrupt: &Interrupt) -> Result<Self, Failure> {
        let here = Path::new(".");
        let top = run(git(here).args(["rev-parse", "--show-toplevel"]), Errors::Kept, interrupt)?;
        let repository = PathBuf::from(top.trim_end_matches(['\r', '\n']));
        let object = format!("{name}^{{commit}}");
        let mut look = git(&repository);
        look.args(["rev-parse", "--verify", "--quiet", "--end-of-options", &object]);
        match run(&mut look, Errors::Kept, interrupt) {
            Ok(hash) => Ok(Commit { repository, hash: hash.trim().to_owned() }),
            // With --quiet git prints nothing and exits with 1 if there is no such object.
            Err(Failure::Child { .. }) => Err(Failure::NoCommit { name: name.to_owned(), repository }),
            Err(other) => Err(other),
        }
    }

    /// The first digits of its hash.
    pub fn short_hash(&self) -> &str {
        &self.hash[..HASH_DIGITS_SHOWN.min(self.hash.len())]
    }

    /// Builds its benchmarks; the binary. The target folder stays, so that the next build is quick.
    pub fn build(&self, target_dir: Option<&Path>, interrupt: &Interrupt) -> Result<PathBuf, Failure> {
        let target_dir = match target_dir {
            Some(folder) => std::path::absolute(folder).map_err(Failure::system("find the target folder"))?,
            None => self.repository.join("target").join("against"),
        };
        let checkout = Checkout::create(self, interrupt)?;
        let is_seen = std::io::stderr().is_terminal();
        if is_seen {
            note(format_args!("building {BENCH} of {} in {}", self.short_hash(), target_dir.display()));
        }
        let mut cargo = Command::new("cargo");
        cargo.current_dir(checkout.tree()).args(["build", "--release", "--locked"]);
        cargo.args(["--package", BENCH, "--bin", BENCH, "--target-dir"]).arg(&target_dir);
        run(&mut cargo, if is_seen { Errors::Shown } else { Errors::Kept }, interrupt)?;
        Ok(target_dir.join("release").join(format!("{BENCH}{}", std::env::consts::EXE_SUFFIX)))
    }
}

impl<'a> Checkout<'a> {
    fn create(commit: &'a Commit, interrupt: &Interrupt) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("sheratan-bench-").tempdir();
        let folder = folder.map_err(Failure::system("create a folder for the commit's tree"))?;
        // Made before git runs: what an interrupted git leaves is removed as well.
        let checkout = Checkout { commit, folder };
        let mut add = git(&commit.repository);
        add.args(["worktree", "add", "--quiet", "--detach"]).arg(checkout.tree()).arg(&commit.hash);
        run(&mut add, Errors::Kept, interrupt)?;
        Ok(checkout)
    }

    fn tree(&self) -> PathBuf {
        self.folder.path().join("tree")
    }
}

impl Drop for Checkout<'_> {
    fn drop(&mut self) {
        let mut remove = git(&self.commit.repository);
        remove.args(["worktree", "remove", "--force"]).arg(self.tree());
        // This may run because of an interrupt, so further ones are ignored. git refuses to remove a worktree that it
        // did not add; then nothing is left.
        _ = run(&mut remove, Errors::Kept, &Interrupt::default());
    }
}

fn git(folder: &Path) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_that_is_not_there_is_named_and_an_option_is_not_taken_for_one() {
        let interrupt = Interrupt::default();
        // Sources without their repository are tested as well.
        if run(git(Path::new(".")).args(["rev-parse", "HEAD"]), Errors::Kept, &interrupt).is_err() {
            return;
        }
        for name in ["no-such-commit", "--all"] {
            let failure = Commit::find(name, &interrupt).map(|commit| commit.hash).expect_err("there is none");
            assert!(matches!(&failure, Failure::NoCommit { name: named, .. } if named == name), "{failure}");
        }
    }

    #[test]
    fn a_tree_is_checked_out_and_leaves_no_trace() {
        let interrupt = Interrupt::default();
        let Ok(commit) = Commit::find("HEAD", &interrupt) else { return };
        let list =
            || run(git(&commit.repository).args(["worktree", "list"]), Errors::Kept, &interrupt).expect("it lists");
        let checkout = Checkout::create(&commit, &interrupt).expect("HEAD can be checked out");
        let tree = checkout.tree();
        assert!(tree.join("Cargo.toml").is_file());
        let name = checkout.folder.path().file_name().expect("it has a name").to_string_lossy().into_owned();
        assert!(list().contains(&name));
        drop(checkout);
        assert!(!tree.exists() && !list().contains(&name));
    }
}
