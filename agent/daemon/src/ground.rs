//! What an agent stands on: this machine, or the one of a simulation.

use std::{io, sync::Arc};

use futures_util::{FutureExt as _, future::BoxFuture};
use rap_agent_core::capability::HostFacts;
use rap_mesh::{BulkThreads, Dialer, Kernel, Network};
use rap_mesh_core::busy::MachineTimes;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::oneshot,
};

use crate::{
    DriverChoice, RunOptions,
    clock::Clock,
    driver::{self, Driver},
    host,
};

/// A connection to control, below TLS.
pub trait ControlStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ControlStream for T {}

/// Whatever an agent takes from its host besides its state directory. It is asked within a tokio
/// runtime.
pub trait Ground: Send + Sync + 'static {
    fn clock(&self) -> Clock;

    /// Fills with random bits: for pauses, and for the names of incarnations. Keys are not made of them.
    fn fill(&self, bits: &mut [u8]);

    /// A connection to control, below TLS. `host` is a DNS name or an IP address.
    fn connect(
        &self,
        host: String,
        port: u16,
    ) -> BoxFuture<'static, io::Result<Box<dyn ControlStream>>>;

    /// What the mesh speaks over.
    fn network(&self) -> Arc<dyn Network>;

    /// Where the mesh moves bulk.
    fn bulk(&self) -> io::Result<BulkThreads>;

    /// Does what waits for a disk, so that nobody else waits for it.
    fn offload(&self, work: Box<dyn FnOnce() + Send>);

    /// What the host can do. `listens` says that the mesh is there already.
    fn facts(&self, options: &RunOptions, listens: bool) -> HostFacts;

    /// What carries connections.
    fn driver(&self, choice: &DriverChoice) -> Arc<dyn Driver>;

    /// What reaches resources: the agent's workers, or what stands in their place.
    fn dialer(&self, workers: Arc<dyn Dialer>) -> Arc<dyn Dialer> {
        workers
    }

    /// What the host's processors did; `None` where nobody knows.
    fn times(&self) -> Option<MachineTimes>;
}

/// The work did not come to its end: it panicked, or the agent is ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it was not done")]
pub(crate) struct Lost;

/// Begins the work at once; resolves to what comes of it.
pub(crate) fn offload<T: Send + 'static>(
    ground: &dyn Ground,
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = Result<T, Lost>> + Send + 'static {
    let (done, outcome) = oneshot::channel();
    ground.offload(Box::new(move || {
        // Whoever asked may be gone.
        let _ = done.send(work());
    }));
    async move { outcome.await.map_err(|_| Lost) }
}

/// The machine that this process runs on.
pub(crate) struct ThisMachine;

impl Ground for ThisMachine {
    fn clock(&self) -> Clock {
        Clock::MACHINE
    }

    /// # Panics
    /// When the operating system has no randomness: nothing that follows could be trusted.
    fn fill(&self, bits: &mut [u8]) {
        getrandom::fill(bits).expect("the operating system provides randomness");
    }

    fn connect(
        &self,
        host: String,
        port: u16,
    ) -> BoxFuture<'static, io::Result<Box<dyn ControlStream>>> {
        async move {
            let stream = TcpStream::connect((host, port)).await?;
            stream.set_nodelay(true)?;
            Ok::<Box<dyn ControlStream>, io::Error>(Box::new(stream))
        }
        .boxed()
    }

    fn network(&self) -> Arc<dyn Network> {
        Arc::new(Kernel)
    }

    fn bulk(&self) -> io::Result<BulkThreads> {
        BulkThreads::start()
    }

    fn offload(&self, work: Box<dyn FnOnce() + Send>) {
        // What comes of it is told by the work itself.
        drop(tokio::task::spawn_blocking(work));
    }

    fn facts(&self, options: &RunOptions, listens: bool) -> HostFacts {
        let addresses = host::advertised(options.listen, &options.advertise);
        let listens = listens || host::can_bind(options.listen);
        host::facts(&options.state_dir, Some(&options.worker), listens, &addresses)
    }

    fn driver(&self, choice: &DriverChoice) -> Arc<dyn Driver> {
        driver::driver(choice)
    }

    fn times(&self) -> Option<MachineTimes> {
        host::machine_times()
    }
}
