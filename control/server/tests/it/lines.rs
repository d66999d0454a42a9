//! What the servers of this process write to their logs, as one text for each line.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    sync::{Mutex, Once},
};

use tracing_subscriber::EnvFilter;

/// Everything that is ours, at its most talkative.
const FILTER: &str = "rap_control=trace,rap_control_core=trace,rap_events=trace,rap_proto=trace";

/// Of all servers of this process: there is one subscriber, and tests run side by side. Lines are
/// told apart by the ids of requests, which are random.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Sink;

impl Write for Sink {
    /// One line, as the subscriber writes it.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.lock().unwrap().push(String::from_utf8_lossy(bytes).into_owned());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// From now on.
pub(crate) fn capture() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let lines = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(FILTER))
            .with_ansi(false)
            .with_writer(|| Sink)
            .finish();
        tracing::subscriber::set_global_default(lines).unwrap();
    });
}

/// Those that these requests caused: each line names its request.
pub(crate) fn of_requests(ids: &BTreeSet<String>) -> Vec<String> {
    let lines = LINES.lock().unwrap();
    let of = |line: &str| {
        let id = line.split("request=").nth(1)?;
        id.split(|c: char| !c.is_alphanumeric()).next().map(str::to_owned)
    };
    lines.iter().filter(|line| of(line).is_some_and(|id| ids.contains(&id))).cloned().collect()
}

/// All of them, of other tests as well.
pub(crate) fn all() -> Vec<String> {
    LINES.lock().unwrap().clone()
}

/// The lines that hold one of the words.
pub(crate) fn holding<'a>(lines: &'a [String], words: &[String]) -> Vec<&'a String> {
    lines.iter().filter(|line| words.iter().any(|word| line.contains(word))).collect()
}
