//! The adapter contract: frames, hosts, and the addresses that are never dialled.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rap_adapter_contract::{
    ControlEvent, ControlRequest, OpenReply, Request, check_address, check_host,
    frame::body_length,
    limit::{MAX_FRAME_BYTES, MAX_HOST_BYTES},
};

use crate::round_trip::{check, choose, decoded};

pub fn target(data: &[u8]) {
    choose(
        &[
            request,
            check::<OpenReply, MAX_FRAME_BYTES>,
            check::<ControlRequest, MAX_FRAME_BYTES>,
            check::<ControlEvent, MAX_FRAME_BYTES>,
            head,
            host,
            address,
        ],
        data,
    );
}

fn request(bytes: &[u8]) {
    if let Some(Request::Open(open)) = decoded::<Request>(bytes, MAX_FRAME_BYTES) {
        let _ = check_host(&open.host);
    }
}

fn head(bytes: &[u8]) {
    if let Some((head, _)) = bytes.split_first_chunk::<4>()
        && let Ok(length) = body_length(*head)
    {
        assert!(length <= MAX_FRAME_BYTES);
    }
}

fn host(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if check_host(text).is_ok() {
        assert!((1..=MAX_HOST_BYTES).contains(&text.len()));
        assert!(text.bytes().all(|c| c.is_ascii_graphic() && !b"/\\'\"`$;|&<>@%".contains(&c)));
    }
}

fn address(bytes: &[u8]) {
    let address = if let Some((octets, _)) = bytes.split_first_chunk::<16>() {
        IpAddr::V6(Ipv6Addr::from(*octets))
    } else if let Some((octets, _)) = bytes.split_first_chunk::<4>() {
        IpAddr::V4(Ipv4Addr::from(*octets))
    } else {
        return;
    };
    let (far, local) = (check_address(address, false), check_address(address, true));
    assert!(far.is_err() || local.is_ok(), "allowing local addresses forbids nothing");
    let plain = address.to_canonical();
    if plain.is_loopback() || matches!(plain, IpAddr::V4(v4) if v4.is_link_local()) {
        assert!(far.is_err(), "{address} is local");
    }
    let metadata = [Ipv4Addr::new(169, 254, 169, 254), Ipv4Addr::new(100, 100, 100, 200)];
    let never = plain.is_unspecified()
        || plain.is_multicast()
        || matches!(plain, IpAddr::V4(v4) if metadata.contains(&v4));
    assert!(!never || local.is_err(), "{address} may never be dialled");
}
