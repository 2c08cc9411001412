//! `demo-exec`: the program that the demo's workers run. It prints the digest and the size of one file.

use crate::cli::failure::Failure;
use crate::cli::terminal;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// The exit code for a file that cannot be read, which a retry does not change (`EX_NOINPUT` of BSD's sysexits).
pub const EXIT_NO_INPUT: u8 = 66;

/// The arguments of `demo-exec`.
#[derive(clap::Args)]
pub struct Args {
    /// Milliseconds to wait first, so that a demo with a crash is long enough
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pause_ms: u64,
}

/// The params of one of the demo's jobs.
#[derive(Serialize, Deserialize, Debug)]
pub struct Params {
    pub path: PathBuf,
}

/// The result of a job.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Digested {
    /// The digest in hex.
    pub sha256: String,
    /// The number of line breaks.
    pub lines: u64,
    pub bytes: u64,
}

/// Reads params from standard input and prints the result.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let params: Params = serde_json::from_reader(io::stdin().lock())
        .map_err(|error| Failure::local("the params on standard input are not {\"path\":…}", error))?;
    std::thread::sleep(Duration::from_millis(args.pause_ms));
    match digest(&params.path) {
        Ok(digested) => {
            terminal::line(serde_json::to_string(&digested).expect("texts and numbers are always JSON"));
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            terminal::note(format_args!("{}: {error}", terminal::printable(&params.path.to_string_lossy())));
            Ok(ExitCode::from(EXIT_NO_INPUT))
        }
    }
}

/// The digest, lines and bytes of a file, in one pass and constant memory.
pub fn digest(path: &Path) -> io::Result<Digested> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 64 << 10];
    let mut hasher = Sha256::new();
    let (mut lines, mut bytes) = (0, 0);
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(Digested { sha256: hex::encode(hasher.finalize()), lines, bytes });
        }
        hasher.update(&buffer[..count]);
        lines += buffer[..count].iter().filter(|byte| **byte == b'\n').count() as u64;
        bytes += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_lines_and_bytes_are_those_of_sha256sum_and_wc() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        let digested = digest(&path).unwrap();
        // FIPS 180-2, appendix B.1.
        assert_eq!(digested.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!((digested.lines, digested.bytes), (0, 3));
        std::fs::write(&path, "x\n".repeat(100_000)).unwrap();
        let digested = digest(&path).unwrap();
        assert_eq!((digested.lines, digested.bytes), (100_000, 200_000));
        assert!(digest(&dir.path().join("none")).is_err());
    }
}
