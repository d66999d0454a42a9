//! A disk in memory whose power can be cut after any byte.

use std::collections::BTreeMap;

use rap_proto::Digest;

use super::{Disk, DiskError, StateFile};

/// Counts every byte and every step of a write, and stops at the budget it was given.
#[derive(Debug, Clone, Default)]
pub struct SimDisk {
    files: BTreeMap<StateFile, Vec<u8>>,
    steps: u64,
    cut_after: Option<u64>,
    /// What is found after a cut between a rename and the flush of its directory.
    unflushed_rename_survives: bool,
}

impl SimDisk {
    pub fn new() -> Self {
        Self::default()
    }

    /// From here on the power is cut after `steps` more steps.
    pub fn cut_after(&mut self, steps: u64, unflushed_rename_survives: bool) {
        self.cut_after = Some(self.steps + steps);
        self.unflushed_rename_survives = unflushed_rename_survives;
    }

    /// The power is back: what was durable is what there is.
    pub fn restore_power(&mut self) {
        self.cut_after = None;
    }

    /// How many steps were taken so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Changes a file as an attacker or a failing disk would.
    pub fn tamper(&mut self, file: StateFile, change: impl FnOnce(&mut Vec<u8>)) {
        change(self.files.entry(file).or_default());
    }

    fn step(&mut self, file: StateFile) -> Result<(), DiskError> {
        if self.cut_after.is_some_and(|at| self.steps >= at) {
            return Err(DiskError::Failed { file: file.path(), message: "power cut".to_owned() });
        }
        self.steps += 1;
        Ok(())
    }
}

impl Disk for SimDisk {
    fn read(&self, file: StateFile) -> Result<Option<Vec<u8>>, DiskError> {
        match self.files.get(&file) {
            Some(bytes) if bytes.len() > file.limit() => {
                Err(DiskError::TooLarge { file: file.path(), limit: file.limit() })
            }
            found => Ok(found.cloned()),
        }
    }

    fn replace(&mut self, file: StateFile, bytes: &[u8]) -> Result<(), DiskError> {
        // The new file beside the old one: nobody reads it before the rename.
        for _ in 0..=bytes.len() {
            self.step(file)?;
        }
        self.step(file)?;
        let before = self.files.insert(file, bytes.to_vec());
        let flushed = self.step(file);
        if flushed.is_err() && !self.unflushed_rename_survives {
            match before {
                Some(bytes) => self.files.insert(file, bytes),
                None => self.files.remove(&file),
            };
        }
        flushed
    }

    fn append(&mut self, file: StateFile, bytes: &[u8]) -> Result<(), DiskError> {
        for byte in bytes {
            self.step(file)?;
            self.files.entry(file).or_default().push(*byte);
        }
        self.step(file)
    }

    fn remove(&mut self, file: StateFile) -> Result<(), DiskError> {
        self.step(file)?;
        self.files.remove(&file);
        Ok(())
    }

    fn sections(&self) -> Result<Vec<Digest>, DiskError> {
        let digests = self.files.keys().filter_map(|file| match file {
            StateFile::Section(digest) => Some(*digest),
            _ => None,
        });
        Ok(digests.collect())
    }
}
