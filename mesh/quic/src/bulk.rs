//! The threads that bulk runs on.

use std::{io, thread};

use tokio::runtime::{Builder, Handle, Runtime};

/// The most threads for the bulk of one process.
const MAX_THREADS: usize = 8;

/// A runtime for bulk alone; see [`crate::MeshOptions::bulk`]. Dropped, it stops without waiting for
/// what still runs.
#[derive(Debug)]
pub struct BulkThreads(Option<Runtime>);

impl BulkThreads {
    /// A thread for each core that this process may use, up to a limit.
    pub fn start() -> io::Result<Self> {
        let threads = thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("bulk")
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// # Panics
    /// Never: the runtime is there until it is dropped.
    pub fn handle(&self) -> Handle {
        self.0.as_ref().expect("it is taken by drop alone").handle().clone()
    }
}

impl Drop for BulkThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
