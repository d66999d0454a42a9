//! A worker process whose system resolver asks a name server of the test. The files that the
//! resolver reads are replaced in a mount namespace of the worker's own, so nothing else on the
//! machine notices.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use rap_adapter_contract::{ControlEvent, Open, OpenReply, Request};
use rap_proto::refusal::Refusal;
use tempfile::TempDir;
use tokio::{
    net::{UdpSocket, UnixStream},
    sync::watch,
    time::timeout,
};

use crate::agent::{PATIENCE, attach, connect, private_directory, receive, send};

/// Replaces what the resolver reads, then becomes the worker.
const SCRIPT: &str = r#"
mount --bind "$1/resolv.conf" /etc/resolv.conf
if [ -e /etc/nsswitch.conf ]; then mount --bind "$1/nsswitch.conf" /etc/nsswitch.conf; fi
exec "$2" --socket "$3"
"#;
/// Names that end so are answered only when the test says so.
const SLOW: &str = "slow.test";
const TYPE_A: [u8; 2] = [0, 1];
/// Where the question starts in a DNS message (RFC 1035, section 4.1.1).
const HEAD_BYTES: usize = 12;

/// Whether this user may do what the tests here need; says so when not.
pub(crate) fn is_possible(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    let mounts = || {
        let status = Command::new("unshare")
            .args(["--mount", "mount", "--bind", "/etc/resolv.conf", "/etc/resolv.conf"])
            .stderr(Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    };
    let possible = root && mounts();
    if !possible {
        rap_skips::skip(test, "it needs root, a mount namespace and /etc/resolv.conf");
    }
    possible
}

/// Answers the address questions of one worker.
pub(crate) struct NameServer {
    address: Ipv4Addr,
    asked: watch::Receiver<BTreeSet<String>>,
    released: watch::Sender<bool>,
}

impl NameServer {
    /// Answers every name with `addresses`, in that order.
    pub(crate) async fn start(addresses: Vec<Ipv4Addr>) -> Self {
        let socket = Arc::new(bind().await);
        let SocketAddr::V4(bound) = socket.local_addr().unwrap() else { panic!("bound to IPv4") };
        let (asking, asked) = watch::channel(BTreeSet::new());
        let (released, release) = watch::channel(false);
        tokio::spawn(async move {
            let mut question = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut question).await {
                let question = question[..length].to_vec();
                let name = name(&question);
                let slow = name.ends_with(SLOW);
                asking.send_modify(|asked| {
                    asked.insert(name);
                });
                let answer = answer(&question, &addresses);
                let (socket, mut release) = (socket.clone(), release.clone());
                tokio::spawn(async move {
                    if !slow || release.wait_for(|released| *released).await.is_ok() {
                        let _ = socket.send_to(&answer, from).await;
                    }
                });
            }
        });
        Self { address: *bound.ip(), asked, released }
    }

    /// Waits until so many different names were asked for.
    pub(crate) async fn asked(&mut self, names: usize) {
        let asked = self.asked.wait_for(|asked| asked.len() >= names);
        assert_eq!(
            timeout(PATIENCE, asked).await.expect("the names are asked").unwrap().len(),
            names
        );
    }

    pub(crate) fn release(&self) {
        self.released.send_replace(true);
    }
}

/// Resolvers ask port 53 and no other; each process has an address of its own.
async fn bind() -> UdpSocket {
    let [.., high, low] = std::process::id().to_be_bytes();
    for third in 0..=u8::MAX {
        let address = Ipv4Addr::new(127, third.wrapping_add(53), high, low.max(1));
        if let Ok(socket) = UdpSocket::bind((address, 53)).await {
            return socket;
        }
    }
    panic!("no address is free");
}

fn name(question: &[u8]) -> String {
    let mut labels = Vec::new();
    let mut at = HEAD_BYTES;
    while question[at] != 0 {
        let end = at + 1 + usize::from(question[at]);
        labels.push(String::from_utf8(question[at + 1..end].to_vec()).unwrap());
        at = end;
    }
    labels.join(".")
}

/// The question with an answer for each address; none of another type than A.
fn answer(question: &[u8], addresses: &[Ipv4Addr]) -> Vec<u8> {
    let end = HEAD_BYTES + name(question).len() + 2;
    let addresses = if question[end..end + 2] == TYPE_A { addresses } else { &[] };
    let count = u16::try_from(addresses.len()).unwrap().to_be_bytes();
    let mut answer = question[..end + 4].to_vec();
    answer[2..HEAD_BYTES].copy_from_slice(&[0x81, 0x80, 0, 1, count[0], count[1], 0, 0, 0, 0]);
    for address in addresses {
        // The question's name, type A, class IN, not to be kept, four bytes.
        answer.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        answer.extend(address.octets());
    }
    answer
}

/// A worker process that resolves names with a [`NameServer`].
pub(crate) struct Resolving {
    child: Child,
    socket: PathBuf,
    _control: UnixStream,
    _directory: TempDir,
}

impl Resolving {
    pub(crate) async fn start(server: &NameServer) -> Self {
        let directory = private_directory();
        let write = |file: &str, text: String| {
            std::fs::write(directory.path().join(file), text).unwrap();
        };
        write("resolv.conf", format!("nameserver {}\noptions timeout:30\n", server.address));
        write("nsswitch.conf", "hosts: dns\n".to_owned());
        let socket = directory.path().join("stream.sock");
        let child = spawn(directory.path(), &socket);
        let (control, hello) = attach(&socket).await;
        assert!(matches!(hello, ControlEvent::Hello { .. }), "{hello:?}");
        Self { child, socket, _control: control, _directory: directory }
    }

    /// Asks for a channel; the answer is [`answered`] later.
    pub(crate) async fn ask(&self, open: Open) -> UnixStream {
        let mut stream = connect(&self.socket).await;
        send(&mut stream, &Request::Open(open)).await.unwrap();
        stream
    }

    pub(crate) async fn open(&self, open: Open) -> Result<UnixStream, Refusal> {
        answered(self.ask(open).await).await
    }
}

impl Drop for Resolving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) async fn answered(mut stream: UnixStream) -> Result<UnixStream, Refusal> {
    match receive(&mut stream).await.unwrap() {
        OpenReply::Opened => Ok(stream),
        OpenReply::Refused(refusal) => Err(refusal),
        OpenReply::Handed => panic!("a socket that nobody asked for"),
    }
}

fn spawn(files: &Path, socket: &Path) -> Child {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-e", "-c", SCRIPT, "sh"]);
    command.arg(files).arg(env!("CARGO_BIN_EXE_rap-stream-worker")).arg(socket);
    command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}
