//! The transport settings of each kind of connection.
//!
//! The side that dials decides: idle timeouts are the smaller of both sides' (RFC 9000, section
//! 10.1), and the accepting side adjusts its windows when it knows the lane.

use std::{sync::Arc, time::Duration};

use quinn::{Connection, IdleTimeout, TransportConfig, VarInt};
use rap_proto::Lane;

use crate::congestion::Steering;

/// A client may lose its network for this long before its session counts as lost.
pub(crate) const CLIENT_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const CLIENT_KEEP_ALIVE: Duration = Duration::from_secs(5);
/// A lane that is silent for this long is lost; it is kept warm far more often.
pub(crate) const LANE_IDLE_TIMEOUT: Duration = Duration::from_secs(10);
const LANE_KEEP_ALIVE: Duration = Duration::from_secs(2);
/// A relay that died is noticed after this.
pub(crate) const HOP_IDLE_TIMEOUT: Duration = Duration::from_secs(4);
const HOP_KEEP_ALIVE: Duration = Duration::from_secs(1);

/// Channels that one client may have open.
pub(crate) const MAX_CLIENT_STREAMS: u32 = 257;
/// Requests that one node may have in flight at a relay.
const MAX_HOP_STREAMS: u32 = 64;

/// The first estimate of a round trip: nodes and their clients are seldom as far apart as the
/// 333 ms of RFC 9002, and a lost first packet should not look like a dead path.
const INITIAL_RTT: Duration = Duration::from_millis(100);

/// What one stream may have in flight towards us.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
/// What a whole interactive lane may: little, so that its queue stays short.
const INTERACTIVE_WINDOW: u32 = 8 * 1024 * 1024;
/// About a second of pictures.
const MEDIA_WINDOW: u32 = 16 * 1024 * 1024;
const BULK_WINDOW: u32 = 32 * 1024 * 1024;
/// Above what a lane's peer takes on all streams together. The sum of each one's own window may be more: what
/// comes is received whether or not its flow is read, within that flow's credit. To a client it may be more as
/// well: what its connection has received counts no longer, whether or not a channel is read. So this bounds what
/// an entry holds for a client that acknowledges nothing, and its channels wait for each other only then.
const SEND_WINDOW: u64 = 64 * 1024 * 1024;
/// A client's streams have no common window at the entry, so this is the sum of each one's own.
const CLIENT_WINDOW: u32 = MAX_CLIENT_STREAMS * STREAM_WINDOW;

/// For one connection that is accepted. It is steered once its ALPN is known, and its window, the smallest of
/// all until then, is made wider: one that is made narrower holds only after all that was allowed before.
pub(crate) fn accepted(steering: &Steering) -> Arc<TransportConfig> {
    let mut config = base(CLIENT_IDLE_TIMEOUT);
    config.congestion_controller_factory(Arc::new(steering.clone()));
    config.receive_window(VarInt::from_u32(INTERACTIVE_WINDOW));
    config.max_concurrent_bidi_streams(VarInt::from_u32(MAX_CLIENT_STREAMS));
    Arc::new(config)
}

/// The accepting side of a lane, once its ALPN is known.
pub(crate) fn adjust_accepted_lane(connection: &Connection, lane: Lane, streams: u32) {
    connection.set_receive_window(VarInt::from_u32(window(lane)));
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(streams));
}

/// The accepting side of a client's connection, its session's or one of its lanes'.
pub(crate) fn adjust_accepted_client(connection: &Connection) {
    connection.set_receive_window(VarInt::from_u32(CLIENT_WINDOW));
}

/// The accepting side of a hop.
pub(crate) fn adjust_accepted_hop(connection: &Connection) {
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(MAX_HOP_STREAMS));
}

/// The dialling side of a lane whose path stays: for whoever measures lanes.
pub fn dialled_lane(lane: Lane) -> Arc<TransportConfig> {
    steered_lane(lane, &Steering::of(lane))
}

/// The dialling side of one lane.
pub(crate) fn steered_lane(lane: Lane, steering: &Steering) -> Arc<TransportConfig> {
    let mut config = base(LANE_IDLE_TIMEOUT);
    config
        .congestion_controller_factory(Arc::new(steering.clone()))
        .keep_alive_interval(Some(LANE_KEEP_ALIVE))
        .receive_window(VarInt::from_u32(window(lane)))
        .max_concurrent_bidi_streams(VarInt::from_u32(0));
    Arc::new(config)
}

pub(crate) fn dialled_hop() -> Arc<TransportConfig> {
    let mut config = base(HOP_IDLE_TIMEOUT);
    config
        .keep_alive_interval(Some(HOP_KEEP_ALIVE))
        .max_concurrent_bidi_streams(VarInt::from_u32(0));
    Arc::new(config)
}

pub(crate) fn dialled_client() -> Arc<TransportConfig> {
    Arc::new(client_side())
}

/// The connection of a client's channels of one lane.
pub(crate) fn dialled_channels(lane: Lane) -> Arc<TransportConfig> {
    let mut config = client_side();
    config.congestion_controller_factory(Arc::new(Steering::of(lane)));
    Arc::new(config)
}

fn client_side() -> TransportConfig {
    let mut config = base(CLIENT_IDLE_TIMEOUT);
    config
        .keep_alive_interval(Some(CLIENT_KEEP_ALIVE))
        .send_window(CLIENT_WINDOW.into())
        .max_concurrent_bidi_streams(VarInt::from_u32(0));
    config
}

const fn window(lane: Lane) -> u32 {
    match lane {
        Lane::Interactive => INTERACTIVE_WINDOW,
        Lane::Media => MEDIA_WINDOW,
        Lane::Bulk => BULK_WINDOW,
    }
}

fn base(idle: Duration) -> TransportConfig {
    let idle = IdleTimeout::try_from(idle).expect("a few seconds fit");
    let mut config = TransportConfig::default();
    config
        .max_idle_timeout(Some(idle))
        .initial_rtt(INITIAL_RTT)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .send_window(SEND_WINDOW)
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None);
    config
}

#[cfg(test)]
mod tests {
    use rap_mesh_core::bulk_window::MOST_IN_FLIGHT;

    use super::*;

    #[test]
    fn no_send_window_is_below_what_the_peer_takes() {
        for lane in Lane::ALL {
            assert!(SEND_WINDOW >= u64::from(window(*lane)), "{lane}");
        }
    }

    #[test]
    fn the_window_of_an_accepted_connection_is_only_made_wider() {
        const { assert!(CLIENT_WINDOW >= INTERACTIVE_WINDOW) };
        for lane in Lane::ALL {
            assert!(window(*lane) >= INTERACTIVE_WINDOW, "{lane}");
        }
    }

    #[test]
    fn a_bulk_lane_has_no_more_in_flight_than_its_peer_takes() {
        assert!(MOST_IN_FLIGHT <= u64::from(window(Lane::Bulk)));
    }
}
