//! A whole fabric of real programs on a small internet of its own, for tests and benchmarks.
//!
//! ```text
//!              control (PostgreSQL, NATS, rap-control)
//!            /     |        |       \            management: everyone reaches control,
//!      client    entry    relay    egress        and control forwards nothing
//!         └────────┘└──────┘└───────┘└── office (sshd, nginx)
//! ```
//!
//! A second relay, `spare`, has the same neighbours as the first, and the first; see
//! [`Fabric::add_relay`]. A third, `third`, has the second and the egress; see
//! [`Fabric::add_third_relay`].
//! Each name is a network namespace with one address. The relay's kernel would forward packets
//! between entry and egress but its packet filter drops them, so the only way between the two is
//! the relay's agent; and the only neighbour of the office is the egress.
//!
//! [`Fabric::start`] does what an administrator does, with the programs that an administrator
//! uses. Everything ends and goes when its owner is dropped, after a panic too.

mod fabric;
mod lab;
mod lossy;
mod memory;
mod nat;
mod office;
mod person;
mod process;
mod recorder;
mod until;
mod usage;

pub use fabric::{Clocks, FIRST, Fabric, Killed, NODE_PORT, NODES, Used, items, programs};
pub use lab::{Lab, Space};
pub use lossy::Sent;
pub use memory::holds;
pub use nat::Nat;
pub use office::{Office, PAGE, start_sshd};
pub use person::{Person, Run, Talk};
pub use process::Process;
pub use recorder::{Heard, Late, Recorder};
pub use until::until;
pub use usage::{cpu_seconds, resident_bytes};
