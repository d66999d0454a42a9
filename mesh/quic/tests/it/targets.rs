//! Resources on loopback, and the dialer that reaches them.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, OnceLock},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use rap_mesh::{DialRequest, Dialed, Dialer, MessageService};
use rap_mesh_core::refusals::refusal;
use rap_proto::{RefusalCode, refusal::Refusal};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixStream},
};

/// Dials the resource's address; behind a worker, when one is set.
#[derive(Default)]
pub(crate) struct TestDialer {
    worker: Mutex<Option<Arc<Worker>>>,
    /// Who takes channels of messages on, when one is set.
    pub(crate) messages: OnceLock<Box<dyn MessageService>>,
    pub(crate) requests: Mutex<Vec<DialRequest>>,
}

/// A stand-in for an adapter worker's process: its streams are Unix sockets that close when it
/// dies, and its supervisor learns of the death a little later.
pub(crate) struct Worker {
    alive: rap_watch::Sender<bool>,
    streams: Mutex<Vec<tokio::task::AbortHandle>>,
}

impl Worker {
    pub(crate) fn die(&self) {
        self.streams.lock().unwrap().drain(..).for_each(|stream| stream.abort());
        self.alive.send_replace(false);
    }

    fn serve(&self, mut target: TcpStream) -> Dialed {
        let (near, mut far) = UnixStream::pair().unwrap();
        let task = tokio::spawn(async move {
            let _ = tokio::io::copy_bidirectional(&mut far, &mut target).await;
        });
        self.streams.lock().unwrap().push(task.abort_handle());
        let mut alive = self.alive.subscribe();
        let worker_died = async move {
            alive.wait_for(|alive| !alive).await.map(drop).unwrap();
        };
        Dialed { stream: Box::new(near), worker_died: worker_died.boxed() }
    }
}

impl TestDialer {
    pub(crate) fn use_worker(&self) -> Arc<Worker> {
        let worker =
            Arc::new(Worker { alive: rap_watch::Sender::new(true), streams: Mutex::default() });
        *self.worker.lock().unwrap() = Some(worker.clone());
        worker
    }
}

impl Dialer for TestDialer {
    fn messages(&self) -> Option<&dyn MessageService> {
        self.messages.get().map(|service| &**service)
    }

    fn dial(&self, request: DialRequest) -> BoxFuture<'_, Result<Dialed, Refusal>> {
        let target = &request.resource.target;
        let address = format!("{}:{}", target.host, target.port);
        self.requests.lock().unwrap().push(request);
        let worker = self.worker.lock().unwrap().clone();
        async move {
            let connected = TcpStream::connect(address).await;
            let target = connected.map_err(|_| refusal(RefusalCode::TargetRefused))?;
            Ok(match worker {
                Some(worker) => worker.serve(target),
                None => Dialed::without_worker(target),
            })
        }
        .boxed()
    }
}

/// Sends back what it receives, and closes when its peer does.
pub(crate) async fn echo() -> SocketAddr {
    serve(|mut stream| async move {
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
        let _ = write.shutdown().await;
    })
    .await
}

/// Reads to the end, then answers with the number of bytes.
pub(crate) async fn counter() -> SocketAddr {
    serve(|mut stream| async move {
        let mut received = Vec::new();
        stream.read_to_end(&mut received).await.unwrap();
        stream.write_all(received.len().to_string().as_bytes()).await.unwrap();
    })
    .await
}

/// Says `bye` and closes.
pub(crate) async fn closer() -> SocketAddr {
    serve(|mut stream| async move {
        stream.write_all(b"bye").await.unwrap();
    })
    .await
}

pub(crate) async fn serve<F>(handler: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    serve_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap(), handler)
}

/// The same at a socket that is there already.
pub(crate) fn serve_on<F>(
    listener: TcpListener,
    handler: impl Fn(TcpStream) -> F + Send + 'static,
) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(handler(stream));
        }
    });
    address
}
