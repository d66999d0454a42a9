//! A disk that is soon full.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

/// Holds a cluster, its first two segments of the write-ahead log, and some room.
const DISK_BYTES: u64 = 160 * 1024 * 1024;
/// How much is written at once to fill it.
const BLOCK_BYTES: u64 = 64 * 1024;

/// A disk of its own for a server, small and in memory, so that a test can see what a full one does.
/// Unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

/// Why this process may not have one: mounting takes more rights than most have.
#[derive(Debug, thiserror::Error)]
#[error("a file system cannot be mounted here: {0}")]
pub struct NotMounted(String);

impl SmallDisk {
    /// Mounts it over an empty folder.
    pub fn mount(folder: &Path) -> Result<Self, NotMounted> {
        let options = format!("size={DISK_BYTES},mode=0700");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder);
        let output = mount.output().map_err(|error| NotMounted(error.to_string()))?;
        if !output.status.success() {
            return Err(NotMounted(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        Ok(Self(folder.to_owned()))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Fills it until `left_bytes` are free, or fewer.
    pub fn fill(&self, left_bytes: u64) -> io::Result<()> {
        let mut ballast = File::create(self.ballast())?;
        loop {
            let stat = rustix::fs::statvfs(&self.0)?;
            let room = (stat.f_bavail * stat.f_frsize).saturating_sub(left_bytes);
            let block = usize::try_from(room.min(BLOCK_BYTES)).unwrap_or_default();
            match ballast.write_all(&vec![1; block]) {
                Ok(()) if block > 0 => {}
                Ok(()) => return Ok(()),
                // Somebody else took what was left.
                Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes away what filled it.
    pub fn make_room(&self) -> io::Result<()> {
        fs::remove_file(self.ballast())
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Left behind it would hold memory; there is nobody to tell.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
