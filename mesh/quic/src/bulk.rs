//! The threads that bulk runs on.

use std::{io, thread};

use tokio::runtime::{Builder, Handle, Runtime};

/// The most threads for the bulk of one process.
const MAX_THREADS: usize = 8;

/// A runtime for bulk alone; see [`crate::MeshOptions::bulk`]. Dropped, it stops without waiting for
/// what still runs.
#[derive(Debug)]
pub struct BulkThreads {
    handle: Handle,
    own: Option<Runtime>,
}

impl BulkThreads {
    /// A thread for each core that this process may use, up to a limit.
    pub fn start() -> io::Result<Self> {
        let threads = thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("bulk")
            .enable_all()
            .build()?;
        Ok(Self { handle: runtime.handle().clone(), own: Some(runtime) })
    }

    /// None of its own: bulk runs where the rest does.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn none() -> Self {
        Self { handle: Handle::current(), own: None }
    }

    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Drop for BulkThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.own.take() {
            runtime.shutdown_background();
        }
    }
}
