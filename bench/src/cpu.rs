//! Processor time of a process, as the kernel counts it.

use std::time::Duration;

/// Processor time that all threads of a process have used, in user and kernel mode; `None` where the system has no
/// `/proc` or the process is gone. To a hundredth of a second.
#[cfg(target_os = "linux")]
pub fn time(pid: u32) -> Option<Duration> {
    let ticks = parse_ticks(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
    Some(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

#[cfg(not(target_os = "linux"))]
pub fn time(_pid: u32) -> Option<Duration> {
    None
}

/// Fields 14 and 15, `utime` and `stime` (proc(5)), counted behind the name, which may hold spaces.
#[cfg(target_os = "linux")]
fn parse_ticks(stat: &str) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_ticks_are_the_two_fields_behind_the_name() {
        assert_eq!(parse_ticks("7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 30 12 0 0 20 0"), Some(42));
        assert_eq!(parse_ticks("7 (a) S 1"), None);
    }

    #[test]
    fn work_takes_time() {
        let pid = std::process::id();
        let before = time(pid).expect("this process has a status");
        let mut sum = 0u64;
        while time(pid).expect("this process has a status") == before {
            sum = std::hint::black_box(sum + 1);
        }
    }
}
