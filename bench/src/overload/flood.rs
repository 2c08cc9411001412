//! A flood: clients that submit as fast as the hub answers, many requests at once on each connection, from a thread of
//! their own. With enough of them the hub's own processor is the limit.

use crate::client::answer::Answer;
use crate::failure::Failure;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Clients that submit without a pause.
pub struct Flood {
    is_over: Arc<AtomicBool>,
    refused: Arc<AtomicU64>,
    threads: Vec<JoinHandle<io::Result<BTreeMap<u16, u64>>>>,
}

/// Requests that a connection sends at once.
const BURST: usize = 16;
/// How long the hub may not answer.
const READ_MAX: Duration = Duration::from_secs(30);

impl Flood {
    /// Begins to send a request that submits a job.
    pub fn begin(address: SocketAddr, submit: &[u8], connections: usize) -> Result<Self, Failure> {
        let burst = submit.repeat(BURST);
        let is_over = Arc::new(AtomicBool::new(false));
        let refused = Arc::new(AtomicU64::new(0));
        let mut threads = Vec::with_capacity(connections);
        for _ in 0..connections {
            let stream = TcpStream::connect(address).map_err(Failure::system(format!("connect to {address}")))?;
            let (burst, is_over, refused) = (burst.clone(), is_over.clone(), refused.clone());
            threads.push(std::thread::spawn(move || submit_all(stream, &burst, &is_over, &refused)));
        }
        Ok(Flood { is_over, refused, threads })
    }

    /// Submits that were refused so far.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Ends it; returns the answers by status.
    pub fn end(self) -> Result<BTreeMap<u16, u64>, Failure> {
        self.is_over.store(true, Ordering::Relaxed);
        let mut sum = BTreeMap::new();
        for thread in self.threads {
            let statuses = thread.join().expect("a client does not panic").map_err(Failure::system("submit jobs"))?;
            statuses.into_iter().for_each(|(status, count)| *sum.entry(status).or_default() += count);
        }
        Ok(sum)
    }
}

fn submit_all(
    mut stream: TcpStream,
    burst: &[u8],
    is_over: &AtomicBool,
    refused: &AtomicU64,
) -> io::Result<BTreeMap<u16, u64>> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(READ_MAX))?;
    let mut statuses = BTreeMap::new();
    let (mut input, mut bytes) = (Vec::new(), vec![0; 64 << 10]);
    while !is_over.load(Ordering::Relaxed) {
        stream.write_all(burst)?;
        let mut open = BURST;
        // What was sent is answered, so that nothing is done that is not counted.
        while open > 0 {
            match stream.read(&mut bytes) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => input.extend_from_slice(&bytes[..count]),
                Err(error) => return Err(error),
            }
            let mut start = 0;
            while let Some(answer) =
                Answer::parse(&input[start..]).map_err(|_| io::Error::from(ErrorKind::InvalidData))?
            {
                *statuses.entry(answer.status).or_default() += 1;
                refused.fetch_add(u64::from(answer.status != 200), Ordering::Relaxed);
                start += answer.body.end;
                open -= 1;
            }
            input.drain(..start);
        }
    }
    Ok(statuses)
}
