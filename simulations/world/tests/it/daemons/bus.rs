//! The bus of the daemons: a connection of each node to each replica, over the simulated network.
//! Whatever is under way when one breaks is lost, as on any bus.

use std::{net::Ipv4Addr, rc::Rc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use rap_bus::{Bus, BusError, LocalBus, Subscription};
use rap_proto::{NodeId, bus::down_subject};
use rap_simulations::cast::CLUSTER;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    time::{sleep, timeout},
};
use turmoil::net::{TcpListener, TcpStream};

use super::wire::{BUS_PORT, receive, send};

/// The messages that wait for one connection; the next ones are lost.
pub(super) const QUEUED: usize = 256;
const RECONNECT: Duration = Duration::from_millis(500);
/// Who has nothing to say says so.
const SAY: Duration = Duration::from_secs(1);
/// A connection on which nothing comes for so long is given up.
const IDLE: Duration = Duration::from_secs(3);

/// What a node's agent is given.
pub(super) struct SimBus {
    heard: LocalBus,
    lines: Vec<mpsc::Sender<Vec<u8>>>,
}

impl SimBus {
    /// Within a host: connects to each of these, for as long as the host runs.
    pub(super) fn connect(node: NodeId, place: usize, replicas: &[&'static str]) -> Self {
        let heard = LocalBus::default();
        let line = |replica: &&'static str| {
            let (line, said) = mpsc::channel(QUEUED);
            tokio::task::spawn_local(keep(replica, (node, place), heard.clone(), said));
            line
        };
        let lines = replicas.iter().map(line).collect();
        Self { heard, lines }
    }
}

impl Bus for SimBus {
    fn publish(&self, _: String, payload: Bytes) -> BoxFuture<'_, Result<(), BusError>> {
        for line in &self.lines {
            // One that is full loses it.
            let _ = line.try_send(payload.to_vec());
        }
        Box::pin(std::future::ready(Ok(())))
    }

    fn subscribe(&self, subject: String) -> BoxFuture<'_, Result<Subscription, BusError>> {
        self.heard.subscribe(subject)
    }
}

async fn keep(
    replica: &'static str,
    (node, place): (NodeId, usize),
    heard: LocalBus,
    mut said: mpsc::Receiver<Vec<u8>>,
) {
    loop {
        if let Ok(Ok(mut stream)) = timeout(IDLE, TcpStream::connect((replica, BUS_PORT))).await
            && send(&mut stream, &[u8::try_from(place).unwrap()]).await.is_ok()
        {
            let hear = |bytes: Vec<u8>| {
                let heard = heard.clone();
                async move {
                    let subject = down_subject(CLUSTER, node);
                    heard.publish(subject, bytes.into()).await.unwrap();
                }
            };
            talk(stream, hear, &mut said).await;
        }
        sleep(RECONNECT).await;
    }
}

/// Both directions of one connection, until either breaks.
async fn talk<H: Future<Output = ()>>(
    stream: TcpStream,
    hear: impl Fn(Vec<u8>) -> H,
    said: &mut mpsc::Receiver<Vec<u8>>,
) {
    let (mut reader, mut writer) = stream.into_split();
    tokio::select! {
        biased;
        () = listen(&mut reader, hear) => {}
        () = say(&mut writer, said) => {}
    }
}

async fn listen<H: Future<Output = ()>>(
    reader: &mut (impl AsyncRead + Unpin),
    hear: impl Fn(Vec<u8>) -> H,
) {
    while let Ok(Ok(bytes)) = timeout(IDLE, receive(reader)).await {
        if !bytes.is_empty() {
            hear(bytes).await;
        }
    }
}

async fn say(writer: &mut (impl AsyncWrite + Unpin), said: &mut mpsc::Receiver<Vec<u8>>) {
    loop {
        let bytes = match timeout(SAY, said.recv()).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return,
            Err(_) => Vec::new(),
        };
        if send(writer, &bytes).await.is_err() {
            return;
        }
    }
}

/// Control's end: `line` is told each connection's node and where to put what it shall hear.
pub(super) async fn serve<H: Future<Output = ()> + 'static>(
    line: Rc<dyn Fn(usize, mpsc::Sender<Vec<u8>>)>,
    hear: impl Fn(Vec<u8>) -> H + Clone + 'static,
) -> turmoil::Result {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, BUS_PORT)).await?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        let (line, hear) = (line.clone(), hear.clone());
        tokio::task::spawn_local(async move {
            let Ok(Ok(hello)) = timeout(IDLE, receive(&mut stream)).await else { return };
            let (sender, mut said) = mpsc::channel(QUEUED);
            line(usize::from(hello[0]), sender);
            talk(stream, hear, &mut said).await;
        });
    }
}
