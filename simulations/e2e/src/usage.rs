//! What a process has used, as the kernel counts it.

use std::{fs, io};

/// The kernel's unit for CPU time, the same on every architecture (proc(5), sysconf(3)).
const TICKS_PER_SECOND: f64 = 100.0;
/// Where `utime` and `stime` are in `/proc/<id>/stat`, counted behind the program's name.
const TIMES: [usize; 2] = [11, 12];

/// CPU-seconds of all threads of a process so far, with what the kernel did for them; to 10 ms.
pub fn cpu_seconds(process: u32) -> io::Result<f64> {
    let text = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name is in parentheses, and can hold anything.
    let (_, fields) = text.rsplit_once(')').ok_or(io::ErrorKind::InvalidData)?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |place: usize| fields.get(place)?.parse::<f64>().ok();
    let [user, kernel] = TIMES.map(ticks);
    let used = user.zip(kernel).ok_or(io::ErrorKind::InvalidData)?;
    Ok((used.0 + used.1) / TICKS_PER_SECOND)
}

/// Bytes of memory of a process that are there and not swapped out.
pub fn resident_bytes(process: u32) -> io::Result<f64> {
    let text = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kib.ok_or(io::ErrorKind::InvalidData)? * 1024.0)
}
