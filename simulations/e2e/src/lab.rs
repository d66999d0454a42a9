//! The network: namespaces, links, routes and the one packet filter.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpListener},
    os::fd::AsFd as _,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::NODE_PORT;

/// Where `ip netns` keeps namespaces.
const FOLDER: &str = "/run/netns";
/// What every name begins with; the process id follows.
const PREFIX: &str = "rap";
/// The rules of the relay's kernel: it forwards nothing by itself.
const RELAY_FILTER: &str = "\
table inet guard {
    chain forward {
        type filter hook forward priority 0; policy drop;
    }
}
";

/// Of a link that was slowed down: what passes at once after a pause, and how long the rest may
/// wait before the link.
const BURST: &str = "16kb";
const MAX_WAIT: &str = "50ms";

/// The rules of a host that control cannot reach and that cannot reach control.
const CUT: &str = "\
table inet cut {
    chain input {
        type filter hook input priority 0; policy accept;
        iifname control drop;
    }
    chain output {
        type filter hook output priority 0; policy accept;
        oifname control drop;
    }
}
";

/// The rules of a host behind a NAT, towards other nodes: whatever leaves has an address and ports that
/// say nothing of the host's own and differ by whom it speaks with, and nothing new comes in.
const HIDDEN: &str = "\
table inet hidden {
    chain postrouting {
        type nat hook postrouting priority 100; policy accept;
        oifname { entry, relay, spare } masquerade fully-random;
    }
    chain input {
        type filter hook input priority 0; policy accept;
        iifname { entry, relay, spare } ct state new drop;
    }
}
";

/// A host of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Space {
    Control,
    Client,
    Entry,
    Relay,
    Egress,
    Office,
    /// A second relay, whose kernel forwards nothing; no node runs there until a test wants it.
    Spare,
    /// A third one, beyond the second.
    Third,
}

use Space::{Client, Control, Egress, Entry, Office, Relay, Spare, Third};

/// The cables; the n-th has the addresses 10.92.n.1 and 10.92.n.2.
const LINKS: &[(Space, Space)] = &[
    (Control, Client),
    (Control, Entry),
    (Control, Relay),
    (Control, Egress),
    (Client, Entry),
    (Entry, Relay),
    (Relay, Egress),
    (Egress, Office),
    (Control, Spare),
    (Entry, Spare),
    (Spare, Egress),
    (Relay, Spare),
    (Control, Third),
    (Spare, Third),
    (Third, Egress),
];

/// Ways that lead over a neighbour: from, to, and the neighbour.
const DETOURS: &[(Space, Space, Space)] = &[(Entry, Egress, Relay), (Egress, Entry, Relay)];

/// The namespaces of one network. Dropping it kills whatever runs in them and removes them.
#[derive(Debug)]
pub struct Lab {
    prefix: String,
}

impl Space {
    pub const ALL: [Self; 8] = [Control, Client, Entry, Relay, Egress, Office, Spare, Third];

    pub const fn name(self) -> &'static str {
        match self {
            Control => "control",
            Client => "client",
            Entry => "entry",
            Relay => "relay",
            Egress => "egress",
            Office => "office",
            Spare => "spare",
            Third => "third",
        }
    }

    /// The host's one address, on its loopback; others have routes to it.
    pub const fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 91, 0, self as u8 + 1)
    }
}

impl Lab {
    /// Builds the network, or says why this machine does not let us.
    pub fn build() -> Result<Self, String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        sweep();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // Dropped, and with it what was built so far, when a step fails.
        let lab = Self { prefix: format!("{PREFIX}{}-{number}", std::process::id()) };
        for space in Space::ALL {
            ip(&["netns", "add", &lab.name(space)])?;
            let own = format!("{}/32", space.address());
            lab.ip(space, &["link", "set", "lo", "up"])?;
            lab.ip(space, &["address", "add", &own, "dev", "lo"])?;
        }
        for (number, (left, right)) in (1..).zip(LINKS) {
            lab.connect(number, *left, *right)?;
        }
        for (from, to, over) in DETOURS {
            let hop = lab.neighbour(*from, *over)?;
            lab.route(*from, *to, &hop)?;
        }
        lab.run(Relay, "sysctl", &["-qw", "net.ipv4.ip_forward=1"])?;
        lab.close_relay()?;
        Ok(lab)
    }

    /// Lets the client's packets reach both relays and the egress through the kernels in between, as a
    /// jump host needs it.
    pub fn let_client_pass(&self) -> Result<(), String> {
        let steps = [
            (Client, Relay, Entry),
            (Client, Egress, Entry),
            (Relay, Client, Entry),
            (Egress, Client, Relay),
            (Client, Spare, Entry),
            (Spare, Client, Entry),
        ];
        for (from, to, over) in steps {
            self.route(from, to, &self.neighbour(from, over)?)?;
        }
        self.run(Entry, "sysctl", &["-qw", "net.ipv4.ip_forward=1"])
    }

    /// Takes the relay's packet filter away, so that entry and egress reach each other.
    pub fn open_relay(&self) -> Result<(), String> {
        self.run(Relay, "nft", &["flush ruleset"])
    }

    /// Ends what [`Lab::open_relay`] began.
    pub fn close_relay(&self) -> Result<(), String> {
        self.run(Relay, "nft", &[RELAY_FILTER])
    }

    /// Drops every packet between a host and control. Its other neighbours and its own loopback
    /// stay.
    pub fn cut_off(&self, space: Space) -> Result<(), String> {
        self.run(space, "nft", &[CUT])
    }

    /// Ends what [`Lab::cut_off`] began.
    pub fn heal(&self, space: Space) -> Result<(), String> {
        self.run(space, "nft", &["delete table inet cut"])
    }

    /// Puts a host behind a NAT that is symmetric and lets nothing new in. Control and whatever is
    /// behind the host stay as they are.
    pub fn hide(&self, space: Space) -> Result<(), String> {
        self.run(space, "nft", &[HIDDEN])
    }

    /// Drops what a host and a neighbour send each other over `protocol`, `tcp` or `udp`.
    pub fn block(&self, space: Space, neighbour: Space, protocol: &str) -> Result<(), String> {
        let name = neighbour.name();
        let drop = |way: &str| format!("{way} {name} meta l4proto {protocol} drop;");
        let rules = format!(
            "table inet blocked {{
                chain input {{ type filter hook input priority 0; {} }}
                chain output {{ type filter hook output priority 0; {} }}
            }}",
            drop("iifname"),
            drop("oifname")
        );
        self.run(space, "nft", &[&rules])
    }

    /// Lets nothing pass between a host and a neighbour but TCP to the neighbour's [`NODE_PORT`], as a network
    /// does that knows the web alone.
    pub fn let_only_the_web_pass(&self, space: Space, neighbour: Space) -> Result<(), String> {
        let name = neighbour.name();
        let rules = format!(
            "table inet blocked {{
                chain input {{
                    type filter hook input priority 0;
                    iifname {name} tcp sport {NODE_PORT} accept
                    iifname {name} drop
                }}
                chain output {{
                    type filter hook output priority 0;
                    oifname {name} tcp dport {NODE_PORT} accept
                    oifname {name} drop
                }}
            }}"
        );
        self.run(space, "nft", &[&rules])
    }

    /// Ends what [`Lab::block`] or [`Lab::let_only_the_web_pass`] began.
    pub fn unblock(&self, space: Space) -> Result<(), String> {
        self.run(space, "nft", &["delete table inet blocked"])
    }

    /// Takes the cable between two neighbours away for good: neither has a route to the other any more.
    pub fn unplug(&self, space: Space, neighbour: Space) -> Result<(), String> {
        self.ip(space, &["link", "delete", neighbour.name()])
    }

    /// What a host sends a neighbour passes no faster than this from now on; what waits for longer
    /// than `MAX_WAIT` is dropped.
    pub fn slow_down(&self, space: Space, neighbour: Space, mbit: u32) -> Result<(), String> {
        let rate = format!("{mbit}mbit");
        let filter = ["tbf", "rate", &rate, "burst", BURST, "latency", MAX_WAIT];
        let place = ["qdisc", "replace", "dev", neighbour.name(), "root"];
        self.run(space, "tc", &[&place[..], &filter].concat())
    }

    /// From now on a host speaks to a neighbour from the address of the cable between them.
    pub fn readdress(&self, space: Space, neighbour: Space) -> Result<(), String> {
        let (to, hop) = (neighbour.address().to_string(), self.neighbour(space, neighbour)?);
        self.ip(space, &["route", "replace", &to, "via", &hop])
    }

    /// A command that runs on a host. It dies with this process' thread that starts it.
    pub fn command(&self, space: Space, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(space)]);
        command.args(["setpriv", "--pdeathsig", "KILL", "--", program]);
        command
    }

    /// Does something with this process' own code on a host. Sockets stay there.
    pub fn inside<T: Send + 'static>(
        &self,
        space: Space,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let path = format!("{FOLDER}/{}", self.name(space));
        thread::spawn(move || {
            let namespace = File::open(path).expect("the namespace was made by us");
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("who makes namespaces may enter them");
            work()
        })
    }

    /// A TCP socket that listens on a host's every address.
    pub fn listen(&self, space: Space, port: u16) -> TcpListener {
        let listener = self.inside(space, move || {
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
            listener.set_nonblocking(true)?;
            Ok::<_, std::io::Error>(listener)
        });
        let listener = listener.join().expect("binding does not panic");
        listener.expect("a fresh namespace has every port free")
    }

    /// The processes that run on a host.
    pub fn processes(&self, space: Space) -> Vec<u32> {
        processes(&self.name(space))
    }

    fn name(&self, space: Space) -> String {
        format!("{}-{}", self.prefix, space.name())
    }

    fn connect(&self, number: u8, left: Space, right: Space) -> Result<(), String> {
        let (left_name, right_name) = (self.name(left), self.name(right));
        ip(&[
            "link",
            "add",
            right.name(),
            "netns",
            &left_name,
            "type",
            "veth",
            "peer",
            "name",
            left.name(),
            "netns",
            &right_name,
        ])?;
        for (own, other, last) in [(left, right, 1), (right, left, 2)] {
            let address = format!("10.92.{number}.{last}/30");
            self.ip(own, &["address", "add", &address, "dev", other.name()])?;
            self.ip(own, &["link", "set", other.name(), "up"])?;
        }
        self.route(left, right, &format!("10.92.{number}.2"))?;
        self.route(right, left, &format!("10.92.{number}.1"))
    }

    pub(crate) fn route(&self, from: Space, to: Space, hop: &str) -> Result<(), String> {
        let (to, own) = (to.address().to_string(), from.address().to_string());
        self.ip(from, &["route", "add", &to, "via", hop, "src", &own])
    }

    pub(crate) fn neighbour(&self, own: Space, other: Space) -> Result<String, String> {
        let found = (1..).zip(LINKS).find_map(|(number, (left, right))| {
            ((own, other) == (*left, *right))
                .then(|| format!("10.92.{number}.2"))
                .or_else(|| ((own, other) == (*right, *left)).then(|| format!("10.92.{number}.1")))
        });
        found.ok_or_else(|| format!("no link between {own:?} and {other:?}"))
    }

    pub(crate) fn ip(&self, space: Space, arguments: &[&str]) -> Result<(), String> {
        let name = self.name(space);
        ip(&[&["-netns", name.as_str()], arguments].concat())
    }

    pub(crate) fn run(
        &self,
        space: Space,
        program: &str,
        arguments: &[&str],
    ) -> Result<(), String> {
        outcome(self.command(space, program).args(arguments))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for space in Space::ALL {
            remove(&self.name(space));
        }
    }
}

/// Removes what killed processes left behind.
fn sweep() {
    for entry in fs::read_dir(FOLDER).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        let Some(owner) = owner.and_then(|owner| owner.parse::<u32>().ok()) else { continue };
        if !fs::exists(format!("/proc/{owner}")).unwrap_or(true) {
            remove(&name);
        }
    }
}

fn remove(name: &str) {
    for process in processes(name) {
        let _ = Command::new("kill").args(["-KILL", &process.to_string()]).status();
    }
    // Without the name the kernel frees the namespace when its last process is gone.
    let _ = ip(&["netns", "delete", name]);
}

fn processes(name: &str) -> Vec<u32> {
    let listed = Command::new("ip").args(["netns", "pids", name]).stderr(Stdio::null()).output();
    let listed = listed.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&listed).lines().filter_map(|line| line.parse().ok()).collect()
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    outcome(Command::new("ip").args(arguments))
}

fn outcome(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("{command:?}: {words}"))
}
