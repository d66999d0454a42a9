//! What a process has used, as the kernel counts it.

use std::fs;

use crate::Outcome;

/// The kernel's unit for CPU time, the same on every architecture (proc(5), sysconf(3)).
const TICKS_PER_SECOND: f64 = 100.0;
/// Where `utime` and `stime` are in `/proc/<id>/stat`, counted behind the program's name.
const TIMES: [usize; 2] = [11, 12];

/// CPU-seconds of all threads, with what the kernel did for them; to 10 ms.
pub(crate) fn cpu_seconds(process: u32) -> Outcome<f64> {
    let text = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name is in parentheses, and can hold anything.
    let (_, fields) = text.rsplit_once(')').ok_or("the kernel names the program")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let mut ticks = 0.0;
    for place in TIMES {
        ticks += fields.get(place).ok_or("the kernel says no times")?.parse::<f64>()?;
    }
    Ok(ticks / TICKS_PER_SECOND)
}

/// Memory that is there and not swapped out, in KiB.
pub(crate) fn resident_kib(process: u32) -> Outcome<f64> {
    let text = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or("the kernel says nothing of memory")?.parse()?)
}
