//! Guard: kills the commands of a process that is killed itself.
//!
//! A small shell waits at the end of a pipe. It is told of each process group that begins and ends; when the pipe ends,
//! because the process that holds it has ended in whatever way, it kills the groups that are left. It needs no
//! privilege, works on every Unix, and is not found by the name of the process that it stands for (`killall`).

#[cfg(unix)]
use std::io::Write;
#[cfg(unix)]
use std::process::{ChildStdin, Command, Stdio};
#[cfg(unix)]
use std::sync::Mutex;

/// Reads `+ group` and `- group`, a line each. Signals of the terminal, and those that ask to end, are for the others.
#[cfg(unix)]
const SCRIPT: &str = r#"
trap '' HUP INT QUIT TERM
held=' '
while read -r sign group; do
  case $sign in
    +) held="$held$group " ;;
    -) case $held in *" $group "*) held="${held%%" $group "*} ${held#*" $group "}" ;; esac ;;
  esac
done
for group in $held; do kill -s KILL -- "-$group" 2>/dev/null; done
"#;

/// The guard.
#[derive(Debug)]
pub struct Guard {
    /// `None` if there is no guard.
    #[cfg(unix)]
    pipe: Mutex<Option<ChildStdin>>,
}

#[cfg(unix)]
impl Guard {
    /// Starts the guard.
    ///
    /// # Errors
    /// There is no shell: the commands of a process that is killed run on.
    pub fn start() -> std::io::Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "guard"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        command.env_clear();
        super::process::in_own_group(&mut command);
        // It is not waited for: it ends after this process.
        let pipe = command.spawn()?.stdin;
        Ok(Guard { pipe: Mutex::new(pipe) })
    }

    /// No guard.
    pub fn none() -> Self {
        Guard { pipe: Mutex::new(None) }
    }

    /// A group has begun.
    pub fn hold(&self, group: u32) {
        self.tell('+', group);
    }

    /// A group has ended, or was left to itself.
    pub fn release(&self, group: u32) {
        self.tell('-', group);
    }

    fn tell(&self, sign: char, group: u32) {
        let mut pipe = self.pipe.lock().expect("no thread panics while it holds the pipe");
        let told = pipe.as_mut().map(|pipe| pipe.write_all(format!("{sign} {group}\n").as_bytes()));
        if matches!(told, Some(Err(_))) {
            // Somebody killed the guard: the commands run on as they would have without one.
            *pipe = None;
        }
    }
}

/// Windows has no process groups: the commands of a process that is killed run on.
#[cfg(not(unix))]
impl Guard {
    /// No guard.
    pub fn start() -> std::io::Result<Self> {
        Ok(Guard {})
    }

    /// No guard.
    pub fn none() -> Self {
        Guard {}
    }

    /// A group has begun.
    pub fn hold(&self, _: u32) {}

    /// A group has ended, or was left to itself.
    pub fn release(&self, _: u32) {}
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::platform::process::{in_own_group, signal_of};

    #[test]
    fn the_groups_that_are_left_are_killed_when_the_pipe_ends() {
        let guard = Guard::start().unwrap();
        let mut children = ["1", "2", "3"].map(|_| {
            let mut command = Command::new("sh");
            command.args(["-c", "sleep 600 & wait"]).stdout(Stdio::piped());
            in_own_group(&mut command);
            command.spawn().unwrap()
        });
        children.iter().for_each(|child| guard.hold(child.id()));
        guard.release(children[1].id());
        drop(guard);
        for index in [0, 2] {
            assert_eq!(signal_of(&children[index].wait().unwrap()), Some(9));
            // The children of the shell held its output.
            let mut rest = Vec::new();
            std::io::Read::read_to_end(children[index].stdout.as_mut().unwrap(), &mut rest).unwrap();
        }
        assert!(children[1].try_wait().unwrap().is_none(), "one that was released runs on");
        crate::platform::process::kill_group(children[1].id());
        children[1].wait().unwrap();
    }
}
