//! The limits that a worker keeps and that an agent may count on.

/// The format that this build speaks. A worker refuses a control connection of another one.
pub const FORMAT: u16 = 1;
/// The largest frame, without its length.
pub const MAX_FRAME_BYTES: usize = 4 * 1024;
/// The most channels that one worker holds open at once.
pub const MAX_CHANNELS: usize = 1024;
/// The most addresses of one DNS name that are looked at.
pub const MAX_ADDRESSES: usize = 16;
/// The longest host name, in bytes (RFC 1035, section 2.3.4).
pub const MAX_HOST_BYTES: usize = 253;
/// How long a new connection may take to send its first frame.
pub const FIRST_FRAME_TIMEOUT_MS: u64 = 5_000;
/// How long the resolution of a name may take.
pub const RESOLVE_TIMEOUT_MS: u64 = 5_000;
/// How long dialling may take, over all addresses together.
pub const DIAL_TIMEOUT_MS: u64 = 10_000;
/// How long a fresh worker waits for its control connection before it gives up and exits.
pub const CONTROL_TIMEOUT_MS: u64 = 15_000;
/// The longest grace that [`crate::ControlRequest::Shutdown`] can ask for.
pub const MAX_SHUTDOWN_GRACE_MS: u64 = 60_000;
