//! How a test says that it, or a part of it, cannot be done on this machine. Nobody reads what a test
//! that passed has printed, so it is also written to a file: `cargo xtask test` reads that.

use std::{env, ffi::OsStr, fs::OpenOptions, io::Write as _};

/// Names the file that collects what was skipped, one line each.
const FILE: &str = "RAP_SKIPPED";

/// Says which test is left out and why; for the caller to return then.
///
/// # Panics
/// When it cannot be written to the file that the environment names: it would go unseen.
pub fn skip(test: &str, reason: &str) {
    let line = line(test, reason);
    print!("SKIPPED {line}");
    if let Some(file) = env::var_os(FILE) {
        collect(&file, &line);
    }
}

fn line(test: &str, reason: &str) -> String {
    let words: Vec<&str> = reason.split_whitespace().collect();
    format!("{test}: {}\n", words.join(" "))
}

/// In one write, so that tests that run beside each other do not mix their lines.
fn collect(file: &OsStr, line: &str) {
    let opened = OpenOptions::new().append(true).create(true).open(file);
    opened.and_then(|mut file| file.write_all(line.as_bytes())).expect("a skip is collected");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_skip_is_one_line_behind_the_others() {
        let path = env::temp_dir().join(format!("rap-skips-{}", std::process::id()));
        collect(path.as_os_str(), &line("one", "no `unshare`:\n  not found\n"));
        collect(path.as_os_str(), &line("two", "not root"));
        let collected = std::fs::read_to_string(&path).expect("the file is there");
        std::fs::remove_file(path).expect("the file goes");
        assert_eq!(collected, "one: no `unshare`: not found\ntwo: not root\n");
    }
}
