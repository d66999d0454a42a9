use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rap_control_core::State;
use rap_proto::ClusterId;
use rap_tlog::Frontier;

use super::{FILE, store};

/// Where a server that runs leaves its state: now and then, after a rebuild, and when it stops.
///
/// A rebuild puts another state in the place of the living one, and what was kept of the old one
/// may have the fault that the rebuild heals. So each exchange begins a generation. What is of an
/// earlier one is not written any more, and what lies there of one gives way: it is replaced, or it
/// is removed.
pub(crate) struct Shelf {
    dir: PathBuf,
    cluster: ClusterId,
    generation: AtomicU64,
    /// Of what lies there. All who write hold this while they do.
    kept: Mutex<Kept>,
}

/// How often the living state was exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Generation(u64);

/// What a start found is of the first generation: it went on from that, or left it aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Kept {
    generation: Generation,
    position: u64,
}

impl Shelf {
    pub(crate) fn new(dir: &Path, cluster: ClusterId) -> Self {
        let (generation, kept) = Default::default();
        Self { dir: dir.to_owned(), cluster, generation, kept }
    }

    /// To be asked before the state is taken that is stored with it: what was taken before an
    /// exchange never counts as what came after it.
    pub(crate) fn generation(&self) -> Generation {
        Generation(self.generation.load(Ordering::Acquire))
    }

    /// The living state was exchanged: what was taken before counts no more.
    pub(crate) fn begin_generation(&self) -> Generation {
        Generation(self.generation.fetch_add(1, Ordering::AcqRel) + 1)
    }

    /// Keeps a state for the next start, unless a newer one lies there or is about to. It waits for
    /// the disk, so not on a thread that anybody else needs.
    pub(crate) fn store(&self, generation: Generation, state: &State, frontier: &Frontier) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let offered = Kept { generation, position: state.position() };
        if generation < self.generation() || offered < *kept {
            tracing::info!(position = offered.position, "a newer state is kept than this one");
            return;
        }
        match store(&self.dir, self.cluster, state, frontier) {
            Ok(()) => *kept = offered,
            Err(reason) => {
                tracing::warn!(%reason, "the fold cache could not be written");
                self.remove_older(*kept);
            }
        }
    }

    /// Nothing can be stored now. What lies there of an earlier generation is removed. It waits for
    /// the disk as well.
    pub(crate) fn give_up(&self) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        self.remove_older(*kept);
    }

    fn remove_older(&self, kept: Kept) {
        if kept.generation >= self.generation() {
            return;
        }
        let file = self.dir.join(FILE);
        match fs::remove_file(&file) {
            Ok(()) => tracing::warn!("the fold cache of a state that was replaced is removed"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::error!(
                %error,
                file = %file.display(),
                "the fold cache is of a state that was replaced: remove it before the next start"
            ),
        }
    }
}
