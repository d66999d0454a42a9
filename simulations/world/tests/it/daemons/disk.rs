//! The disk under a simulated agent: it takes its time, and what was under way when the power went is not
//! there. The files are the machine's.

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use rap_agent_core::disk::StateFile;
use rap_simulations::level2::Mutation;
use tokio::time::sleep;

/// How late comes what was answered before.
const LATE: Duration = Duration::from_millis(500);

/// The files of a state directory, by their paths below it.
pub(super) type Files = BTreeMap<PathBuf, Vec<u8>>;

#[derive(Clone)]
pub(super) struct SimDisk {
    root: PathBuf,
    plant: Option<Mutation>,
}

impl SimDisk {
    pub(super) fn new(root: PathBuf, plant: Option<Mutation>) -> Self {
        Self { root, plant }
    }

    /// Within a host: does the work after this time, unless the host is gone by then.
    pub(super) fn begin(&self, takes: Duration, work: Box<dyn FnOnce() + Send>) {
        let disk = self.clone();
        tokio::spawn(async move {
            if disk.plant == Some(Mutation::AnsweredBeforeWritten) {
                return disk.answer_and_write_late(work).await;
            }
            sleep(takes).await;
            let floor = disk.floor();
            work();
            if disk.plant == Some(Mutation::FloorNotWritten) {
                disk.put(&floor);
            }
        });
    }

    async fn answer_and_write_late(&self, work: Box<dyn FnOnce() + Send>) {
        let before = self.files();
        work();
        let after = self.files();
        let new: Files =
            after.into_iter().filter(|(path, bytes)| before.get(path) != Some(bytes)).collect();
        for path in new.keys().filter(|path| !before.contains_key(*path)) {
            fs::remove_file(self.root.join(path)).unwrap();
        }
        self.put(&before);
        sleep(LATE).await;
        self.put(&new);
    }

    fn floor(&self) -> Files {
        let path = PathBuf::from(StateFile::Floor.path());
        let bytes = fs::read(self.root.join(&path));
        bytes.into_iter().map(|bytes| (path.clone(), bytes)).collect()
    }

    pub(super) fn files(&self) -> Files {
        let mut files = Files::new();
        for below in ["", "sections"] {
            for entry in fs::read_dir(self.root.join(below)).into_iter().flatten() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_file() {
                    let path = PathBuf::from(below).join(entry.file_name());
                    files.insert(path, fs::read(entry.path()).unwrap());
                }
            }
        }
        files
    }

    pub(super) fn put(&self, files: &Files) {
        for (path, bytes) in files {
            fs::write(self.root.join(path), bytes).unwrap();
        }
    }
}
