//! A server that outlived whoever started it, and the file that names it.

use std::{fs, io, path::Path, time::Duration};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::time::{Instant, sleep};

use super::{PrivateError, folder};

/// How long a server may take to stop in order, and then to stop at once.
const STOP_DEADLINE: Duration = Duration::from_secs(15);
const STOP_POLL: Duration = Duration::from_millis(25);

/// The process that `postmaster.pid` names, if it is a server on this very cluster. A number
/// left by a power cut can meanwhile be anybody's.
pub(super) fn postmaster(data: &Path) -> Option<Pid> {
    let file = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let pid = Pid::from_raw(file.lines().next()?.trim().parse().ok()?)?;
    // A server's working directory is its cluster.
    let works_in = fs::read_link(format!("/proc/{}/cwd", pid.as_raw_nonzero())).ok()?;
    (works_in == fs::canonicalize(data).ok()?).then_some(pid)
}

/// Every process that works in this cluster, the first of them first.
pub(super) fn processes(data: &Path) -> Vec<Pid> {
    let (Ok(data), Ok(entries)) = (fs::canonicalize(data), fs::read_dir("/proc")) else {
        return Vec::new();
    };
    let mut found: Vec<Pid> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
            (fs::read_link(entry.path().join("cwd")).ok()? == data).then_some(pid)
        })
        .collect();
    found.sort_by_key(|pid| pid.as_raw_nonzero());
    found
}

pub(super) fn signal(process: Pid, signal: Signal) {
    // It may just have ended, which is what every signal here asks for.
    let _ = kill_process(process, signal);
}

/// Stops a server that still runs on this cluster, and removes the file of one that does not.
pub(super) async fn stop(data: &Path) -> Result<(), PrivateError> {
    let Some(process) = postmaster(data) else {
        let file = data.join("postmaster.pid");
        return match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(folder("cannot remove", &file)(error))
            }
            _ => Ok(()),
        };
    };
    tracing::warn!(pid = process.as_raw_nonzero(), "a PostgreSQL of an earlier run is stopped");
    for how in [Signal::INT, Signal::QUIT] {
        signal(process, how);
        let deadline = Instant::now() + STOP_DEADLINE;
        while Instant::now() < deadline {
            if test_kill_process(process).is_err() {
                return Ok(());
            }
            sleep(STOP_POLL).await;
        }
    }
    Err(PrivateError::StillRunning { path: data.to_owned() })
}
