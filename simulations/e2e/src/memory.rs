//! What a process holds in its memory.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
};

use memchr::memmem::Finder;

/// How much is looked at at once.
const CHUNK: usize = 1024 * 1024;

/// Whether `marker` stands anywhere in the memory of the process, as plain bytes. What it frees
/// meanwhile is left out.
pub fn holds(process: u32, marker: &[u8]) -> io::Result<bool> {
    let memory = File::open(format!("/proc/{process}/mem"))?;
    let maps = fs::read_to_string(format!("/proc/{process}/maps"))?;
    let finder = Finder::new(marker);
    let mut room = vec![0; CHUNK + marker.len()];
    for (begin, end) in maps.lines().filter_map(readable) {
        let mut at = begin;
        while at < end {
            let most = usize::try_from(end - at).unwrap_or(usize::MAX).min(room.len());
            // Device pages and what is gone by now cannot be read.
            let Ok(length @ 1..) = memory.read_at(&mut room[..most], at) else { break };
            if finder.find(&room[..length]).is_some() {
                return Ok(true);
            }
            // A marker may stand across two chunks.
            at += length.saturating_sub(marker.len() - 1).max(1) as u64;
        }
    }
    Ok(false)
}

/// The first and the last address of a mapping that may be read (proc_pid_maps(5)).
fn readable(line: &str) -> Option<(u64, u64)> {
    let mut words = line.split_whitespace();
    let (begin, end) = words.next()?.split_once('-')?;
    let may_read = words.next()?.starts_with('r');
    let kernels = line.ends_with("[vvar]") || line.ends_with("[vsyscall]");
    let address = |text| u64::from_str_radix(text, 16).ok();
    (may_read && !kernels).then_some((address(begin)?, address(end)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_mappings_are_read() {
        let heap = "55d0-55f1 rw-p 00000000 00:00 0    [heap]";
        assert_eq!(readable(heap), Some((0x55d0, 0x55f1)));
        assert_eq!(readable("7f00-7f10 ---p 00000000 00:00 0"), None);
        assert_eq!(readable("7fff-8000 r--p 00000000 00:00 0    [vvar]"), None);
        assert_eq!(readable(""), None);
    }
}
