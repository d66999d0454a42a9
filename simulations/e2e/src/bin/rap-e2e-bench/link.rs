//! Input beside a bulk transfer over a slow link, which is between entry and relay: somebody types on
//! one resource and downloads from another.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rap_e2e::{Fabric, Lab, Space, until};
use tokio::time::sleep;

use crate::{PATIENCE, bound, connect, figure, share, skipped};

pub(crate) const FIGURES: &[&str] =
    &["link_input_idle_p99", "link_input_p50", "link_input_p99", "link_bulk_share"];

const RATE_MBIT: u32 = 100;
/// The ports of the office: one gives for as long as somebody takes, the other echoes.
const FLOOD_PORT: u16 = 7003;
const ECHO_PORT: u16 = 7004;
/// How long bulk has the link for itself first, so that it has found out how fast that is.
const SETTLES: Duration = Duration::from_secs(4);
const SPAN: Duration = Duration::from_secs(10);
const INPUT: usize = 16;
const PAUSE: Duration = Duration::from_millis(5);

pub(crate) async fn measure(fabric: &Fabric) {
    let lab = fabric.lab();
    for (from, to) in [(Space::Entry, Space::Relay), (Space::Relay, Space::Entry)] {
        if let Err(reason) = lab.slow_down(from, to, RATE_MBIT) {
            return skipped(FIGURES, &reason);
        }
    }
    lab.inside(Space::Office, || serve(FLOOD_PORT, flood));
    lab.inside(Space::Office, || serve(ECHO_PORT, echo));
    for (name, port) in [("flood", FLOOD_PORT), ("echo", ECHO_PORT)] {
        share(fabric, name, &format!("{}:{port}", Space::Office.address())).await;
    }
    let interactive = ["echo", "--lane", "interactive"];
    let (_typing, typing_at) = connect(fabric, &fabric.alice, "connect-echo", &interactive).await;
    let (_bulk, bulk_at) =
        connect(fabric, &fabric.alice, "connect-flood", &["flood", "--lane", "bulk"]).await;
    until("the echo answers", PATIENCE, async || inputs(lab, typing_at, PAUSE).ok()).await;

    let idle = inputs(lab, typing_at, SPAN / 2).expect("it answered before");
    let download = Download::start(lab, bulk_at);
    sleep(SETTLES).await;
    let (before, begun) = (download.bytes(), Instant::now());
    let beside = inputs(lab, typing_at, SPAN).expect("it answered before");
    let megabits = (download.bytes() - before) as f64 * 8.0 / 1e6;
    let share = megabits / begun.elapsed().as_secs_f64() / f64::from(RATE_MBIT);
    download.stop();
    figure("link_input_idle_p99", quantile(&idle, 99), "ms");
    figure("link_input_p50", quantile(&beside, 50), "ms");
    figure("link_input_p99", quantile(&beside, 99), "ms");
    figure("link_bulk_share", share * 100.0, "% of the link");
}

/// Somebody who downloads until this is stopped or dropped.
pub(crate) struct Download {
    bytes: Arc<AtomicU64>,
    over: Over,
    thread: thread::JoinHandle<io::Result<()>>,
}

/// Ends a download when it is dropped, with what comes next.
struct Over(Arc<AtomicBool>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Download {
    pub(crate) fn start(lab: &Lab, address: SocketAddr) -> Self {
        let (bytes, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, ended) = (bytes.clone(), over.clone());
        let thread = lab.inside(Space::Client, move || {
            let mut stream = TcpStream::connect(address)?;
            let mut buffer = vec![0; 64 << 10];
            while !ended.load(Ordering::Relaxed) {
                match stream.read(&mut buffer)? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    count => counted.fetch_add(count as u64, Ordering::Relaxed),
                };
            }
            Ok(())
        });
        Self { bytes, over: Over(over), thread }
    }

    /// What has come so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn stop(self) {
        drop(self.over);
        let outcome = self.thread.join().expect("reading does not panic");
        outcome.expect("the download went on for as long as it was wanted");
    }
}

/// How long each input took to come back, in ms and sorted, over a time.
pub(crate) fn inputs(lab: &Lab, address: SocketAddr, span: Duration) -> io::Result<Vec<f64>> {
    let typing = lab.inside(Space::Client, move || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let (mut times, begun) = (Vec::new(), Instant::now());
        while times.is_empty() || begun.elapsed() < span {
            let typed = Instant::now();
            stream.write_all(&[b'k'; INPUT])?;
            stream.read_exact(&mut [0; INPUT])?;
            times.push(typed.elapsed().as_secs_f64() * 1e3);
            // The pace of a person who types; nobody wakes it earlier.
            thread::park_timeout(PAUSE.saturating_sub(typed.elapsed()));
        }
        times.sort_by(f64::total_cmp);
        Ok(times)
    });
    typing.join().expect("typing does not panic")
}

pub(crate) fn quantile(sorted: &[f64], percent: usize) -> f64 {
    sorted[(sorted.len() - 1) * percent / 100]
}

/// Serves everybody who connects, until the process ends.
pub(crate) fn serve(port: u16, answer: fn(TcpStream) -> io::Result<()>) {
    for stream in bound(port).incoming() {
        let Ok(stream) = stream else { return };
        // Whoever goes has what it wanted.
        thread::spawn(move || drop(answer(stream)));
    }
}

pub(crate) fn flood(mut stream: TcpStream) -> io::Result<()> {
    let block = vec![0; 1 << 20];
    loop {
        stream.write_all(&block)?;
    }
}

pub(crate) fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; INPUT];
    loop {
        stream.read_exact(&mut buffer)?;
        stream.write_all(&buffer)?;
    }
}
