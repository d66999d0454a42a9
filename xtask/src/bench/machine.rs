//! What the figures were measured on.

use std::{fs, process::Command, thread};

use crate::shell;

/// One sentence: processor, cores, memory, kernel, compiler.
pub(crate) fn describe() -> String {
    let file = |path| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
    };
    let processor = field(&file("/proc/cpuinfo"), "model name").unwrap_or("unknown".into());
    let kib: u64 = field(&file("/proc/meminfo"), "MemTotal")
        .and_then(|text| text.trim_end_matches(" kB").parse().ok())
        .unwrap_or_default();
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let compiler = shell::output(Command::new("rustc").arg("--version")).unwrap_or_default();
    let kernel = file("/proc/sys/kernel/osrelease");
    format!(
        "{cores} cores ({processor}), {} GiB of memory, Linux {}, {compiler}.",
        kib / 1024 / 1024,
        kernel.trim()
    )
}
