//! How many packets a peer loses, and what a peer that does not answer says of that: nothing.

use super::{
    super::peer::{ANSWER_LIMIT, LEAST_PACKETS},
    *,
};

/// One peer, of which nothing is known but that it answers.
fn heard() -> Bench {
    let mut bench = Bench::knows(Kind::Normal, 100..101);
    bench.seconds(30);
    assert_eq!(bench.status(100).measured.loss_ppm, None, "nothing was counted");
    bench
}

/// Its answer, with what was counted until then. Returns what is known of its loss.
fn answers(bench: &mut Bench, packets: Option<(u64, u64)>) -> Option<u32> {
    let packets = packets.map(|(sent, lost)| Packets { sent, lost });
    let (node, at) = (node(100), bench.calendar());
    let (rtt_us, said, certificate_until) = (1, None, LATER);
    bench.feed(Input::Answered { node, rtt_us, said, packets, certificate_until, at });
    bench.status(100).measured.loss_ppm
}

#[test]
fn packet_loss_is_what_was_counted_once_it_is_enough() {
    let mut bench = heard();
    assert_eq!(answers(&mut bench, Some((LEAST_PACKETS - 1, 5))), None, "too few");
    assert_eq!(answers(&mut bench, Some((1, 0))), Some(100_000), "the first stands for itself");
    let rises = answers(&mut bench, Some((LEAST_PACKETS, LEAST_PACKETS / 2)));
    assert_eq!(rises, Some((100_000 * 7 + 500_000) / 8));
    let falls = answers(&mut bench, Some((LEAST_PACKETS, 0)));
    assert_eq!(falls, rises.map(|ppm| ppm * 7 / 8));
    assert_eq!(answers(&mut bench, Some((0, 0))), falls, "nothing was sent");
    for _ in 0..200 {
        let most = answers(&mut bench, Some((LEAST_PACKETS, u64::MAX)));
        assert!(most.is_some_and(|ppm| ppm <= 1_000_000), "{most:?}");
    }
}

#[test]
fn a_peer_that_does_not_answer_is_less_reliable_and_loses_no_packet() {
    let mut bench = heard();
    answers(&mut bench, Some((LEAST_PACKETS, 1)));
    let before = bench.status(100).measured;
    bench.answers.clear();
    bench.run(PeerPolicy::of(Kind::Normal).heartbeat * 2 + ANSWER_LIMIT);
    let after = bench.status(100).measured;
    assert!(after.reliability < before.reliability, "{after:?}");
    assert_eq!(after.loss_ppm, before.loss_ppm);
}

#[test]
fn where_nobody_counts_packets_their_loss_is_unknown() {
    let mut bench = heard();
    assert_eq!(answers(&mut bench, Some((LEAST_PACKETS, 1))), Some(20_000));
    assert_eq!(answers(&mut bench, Some((LEAST_PACKETS - 1, 1))), Some(20_000));
    assert_eq!(answers(&mut bench, None), None);
    assert_eq!(answers(&mut bench, Some((1, 0))), None, "it is counted anew");
}
