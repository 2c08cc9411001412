//! Terminal: all that the benchmarks print. Nothing panics because a stream is closed or full.

use std::fmt::Display;
use std::io::{self, Write};

/// Writes the report to standard output. A reader that has gone (`| head`) wants no more, which is no failure.
pub fn print(report: &str) -> io::Result<()> {
    print_to(&mut io::stdout(), report)
}

fn print_to(out: &mut impl Write, report: &str) -> io::Result<()> {
    match out.write_all(report.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Prints a line on standard error.
pub fn note(text: impl Display) {
    // A failure to write to standard error cannot be reported anywhere.
    _ = writeln!(io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Failing(io::ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn only_a_reader_that_has_gone_is_no_failure() {
        assert!(print_to(&mut Failing(io::ErrorKind::BrokenPipe), "x").is_ok());
        let full = print_to(&mut Failing(io::ErrorKind::StorageFull), "x");
        assert_eq!(full.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
