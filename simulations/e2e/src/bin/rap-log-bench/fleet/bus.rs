//! Just enough of NATS, on one connection: to speak as every node, and to hear what all of them are
//! told.
//!
//! The server of these figures knows no accounts, since no token allows that. What a node and
//! control say to each other is signed by themselves all the same.

use std::time::Instant;

use rap_proto::{ClusterId, NodeId, bus::up_subject};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    task::JoinSet,
};

use crate::Outcome;

/// The longest message that is believed, in bytes.
const MAX_PAYLOAD_BYTES: usize = 80 * 1024;

/// What one node was told, and when that came here.
pub(crate) struct Told {
    pub(crate) node: NodeId,
    pub(crate) at: Instant,
    pub(crate) payload: Vec<u8>,
}

#[derive(Clone)]
pub(crate) struct Bus {
    cluster: ClusterId,
    lines: mpsc::UnboundedSender<Vec<u8>>,
}

impl Bus {
    /// Returns the bus, what is said to the nodes from here on, and what moves both: without that
    /// nothing is said or heard any more.
    pub(crate) async fn connect(
        address: &str,
        cluster: ClusterId,
    ) -> Outcome<(Self, mpsc::UnboundedReceiver<Told>, JoinSet<()>)> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let (reading, writing) = socket.into_split();
        let (lines, to_write) = mpsc::unbounded_channel();
        let (heard, told) = mpsc::unbounded_channel();
        let bus = Self { cluster, lines };
        bus.send(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\n".to_vec());
        bus.send(format!("SUB rap.{cluster}.node.*.down 1\r\n").into_bytes());
        let mut moving = JoinSet::new();
        moving.spawn(write(writing, to_write));
        moving.spawn(read(BufReader::new(reading), bus.clone(), heard));
        Ok((bus, told, moving))
    }

    /// Says something as a node.
    pub(crate) fn say(&self, node: NodeId, payload: &[u8]) {
        let subject = up_subject(self.cluster, node);
        let mut message = format!("PUB {subject} {}\r\n", payload.len()).into_bytes();
        message.extend_from_slice(payload);
        message.extend_from_slice(b"\r\n");
        self.send(message);
    }

    fn send(&self, line: Vec<u8>) {
        // Whoever listens finds that nothing comes any more.
        let _ = self.lines.send(line);
    }
}

async fn write(mut writing: OwnedWriteHalf, mut lines: mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(line) = lines.recv().await {
        if let Err(error) = writing.write_all(&line).await {
            eprintln!("the bus is lost: {error}");
            return;
        }
    }
}

async fn read(reading: BufReader<OwnedReadHalf>, bus: Bus, heard: mpsc::UnboundedSender<Told>) {
    if let Err(error) = read_all(reading, &bus, &heard).await {
        eprintln!("the bus is lost: {error}");
    }
}

async fn read_all(
    mut reading: BufReader<OwnedReadHalf>,
    bus: &Bus,
    heard: &mpsc::UnboundedSender<Told>,
) -> Outcome<()> {
    let mut line = String::new();
    while !heard.is_closed() {
        line.clear();
        if reading.read_line(&mut line).await? == 0 {
            return Err("the server closed the connection".into());
        }
        let mut words = line.split_whitespace();
        match words.next() {
            Some("PING") => bus.send(b"PONG\r\n".to_vec()),
            Some("-ERR") => return Err(line.into()),
            Some("MSG") => {
                let (subject, length) = (words.next(), words.last());
                let length: usize = length.ok_or("a message without a length")?.parse()?;
                if length > MAX_PAYLOAD_BYTES {
                    return Err("a message is too long".into());
                }
                let node = subject.and_then(|subject| subject.split('.').nth(3));
                let node = node.ok_or("a subject without a node")?.parse()?;
                let mut payload = vec![0; length + b"\r\n".len()];
                reading.read_exact(&mut payload).await?;
                payload.truncate(length);
                let _ = heard.send(Told { node, at: Instant::now(), payload });
            }
            // INFO, and nothing that asks for anything.
            _ => {}
        }
    }
    Ok(())
}
