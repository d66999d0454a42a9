#![allow(clippy::unwrap_used)]

use super::*;
use crate::{
    ClusterId, Name, OrganizationId,
    mesh::{ChannelClass, Part, PeerCounts, PeerKind},
};

#[test]
fn every_problem_has_a_status_of_failure_and_finds_its_code_again() {
    for code in ProblemCode::ALL {
        let problem = Problem::new(*code, "detail");
        assert!((400..600).contains(&problem.status), "{code}");
        assert_eq!(problem.code(), Some(*code));
    }
    let mut unknown = Problem::new(ProblemCode::Internal, "detail");
    unknown.kind = format!("{}_of_a_newer_server", unknown.kind).into();
    assert_eq!(unknown.code(), None);
}

#[test]
fn an_events_id_is_read_as_it_was_written_with_an_imprint_and_without() {
    let cluster = ClusterId::from_u128(3);
    let alone = EventId::at(cluster, 41);
    let imprint = Imprint::from_bytes([0x00, 0x1f, 2, 3, 4, 5, 6, 0xff]);
    let whole = EventId { imprint: Some(imprint), ..alone };
    let text = "00000000-0000-0000-0000-000000000003:41";
    for (id, text) in [(alone, text.to_owned()), (whole, format!("{text}:001f0203040506ff"))] {
        assert_eq!((id.to_string(), text.parse()), (text.clone(), Ok(id)));
    }
}

#[test]
fn what_is_no_events_id_is_refused() {
    let cluster = "00000000-0000-0000-0000-000000000003";
    for rest in [
        "",
        ":",
        ":-1",
        ":+41",
        ":+41:001f0203040506ff",
        ":18446744073709551616",
        ":41:",
        ":41:001f0203040506f",
        ":41:001f0203040506ff0",
        ":41:001F0203040506FF",
        ":41:+01f0203040506ff",
        ":41:001f0203040506ff:",
        "::001f0203040506ff",
    ] {
        let text = format!("{cluster}{rest}");
        assert_eq!(text.parse::<EventId>(), Err(ParseEventIdError), "{text}");
    }
    for text in ["", ":41", "nonsense", "0:41"] {
        assert_eq!(text.parse::<EventId>(), Err(ParseEventIdError), "{text}");
    }
}

#[test]
fn the_time_to_repeat_is_whole_seconds_and_never_too_early() {
    let seconds = |millis| {
        let wait = std::time::Duration::from_millis(millis);
        let problem = Problem::new(ProblemCode::RateLimited, "slower").retry_after(wait);
        serde_json::to_value(&problem).unwrap()["retryAfterSeconds"].as_u64().unwrap()
    };
    assert_eq!([seconds(0), seconds(1), seconds(1_000), seconds(1_001)], [1, 1, 1, 2]);
    let without = serde_json::to_value(Problem::new(ProblemCode::NotFound, "none")).unwrap();
    assert!(without.get("retryAfterSeconds").is_none());
}

#[test]
fn a_whole_number_may_have_a_point_and_nothing_behind_it() {
    let port = |text: &str| {
        let target = format!(r#"{{"host": "h", "port": {text}}}"#);
        serde_json::from_str::<TargetSpec>(&target).ok().map(|target| target.port)
    };
    assert_eq!([port("22"), port("22.0"), port("6.5535e4")], [Some(22), Some(22), Some(65_535)]);
    for text in ["22.5", "-1", "-1.0", "65536", "65536.0", "1e300", "\"22\"", "null"] {
        assert_eq!(port(text), None, "{text}");
    }
}

#[test]
fn a_number_that_may_be_left_out_is_as_whole_as_any() {
    let nodes = |text: &str| {
        let quotas = format!(r#"{{"nodes": {text}}}"#);
        serde_json::from_str::<SetQuotas>(&quotas).ok().map(|quotas| quotas.nodes)
    };
    assert_eq!(nodes("4294967295"), Some(Some(u32::MAX)));
    assert_eq!([nodes("7.0"), nodes("null")], [Some(Some(7)), Some(None)]);
    assert_eq!(serde_json::from_str::<SetQuotas>("{}").unwrap().nodes, None);
    for text in ["4294967296", "-1", "0.5", "\"7\"", "true"] {
        assert_eq!(nodes(text), None, "{text}");
    }
}

#[test]
fn counts_and_weights_are_as_whole_as_any() {
    let text = r#"{"peers": {"thin": {"least": 1.0, "most": 2, "warm": 3.0}},
        "weights": {"bulk": {"latency": 7.0, "trust": 5}}}"#;
    let said: SetPlatformMesh = serde_json::from_str(text).unwrap();
    let counts = PeerCounts { least: 1, most: 2, warm: 3 };
    assert_eq!(said.peers, [(PeerKind::Thin, counts)].into());
    let weights = [(Part::Latency, 7), (Part::Trust, 5)].into();
    assert_eq!(said.weights, [(ChannelClass::Bulk, weights)].into());
    for text in [
        r#"{"peers": {"thin": {"least": 1.5, "most": 2, "warm": 3}}}"#,
        r#"{"peers": {"thin": {"least": 1, "most": 2, "warm": 3, "hot": 1}}}"#,
        r#"{"weights": {"bulk": {"latency": 65536}}}"#,
    ] {
        assert!(serde_json::from_str::<SetPlatformMesh>(text).is_err(), "{text}");
    }
}

#[test]
fn a_reference_is_an_id_or_a_name() {
    let id = OrganizationId::from_u128(7);
    let text = id.to_string();
    assert_eq!(text.parse::<Reference>().unwrap(), Reference::Id(id.uuid()));
    let name: Name = "acme".parse().unwrap();
    assert_eq!("acme".parse::<Reference>().unwrap(), Reference::Name(name));
    assert!("a name; with more".parse::<Reference>().is_err());
}

#[test]
fn bodies_are_written_in_camel_case_and_hide_their_secrets() {
    let body = Setup {
        setup_code: SecretText::new("rapsetup_canary"),
        name: "root".parse().unwrap(),
        password: SecretText::new("canary-password"),
    };
    let json = serde_json::to_value(&body).unwrap();
    assert_eq!(json["setupCode"], "rapsetup_canary");
    assert!(!format!("{body:?}").contains("canary"));
}

#[test]
fn what_a_newer_server_adds_to_an_answer_is_passed_over_and_a_misspelt_request_is_refused() {
    let rules = |added: &str| format!(r#"{{"media": "tcp-only"{added}}}"#);
    let answer = |added: &str| {
        let (organization, rules) = (OrganizationId::from_u128(7), rules(added));
        let taken = r#"{"interactive": "auto", "media": "tcp-only", "bulk": "auto""#;
        let text = format!(
            r#"{{"organization": "{organization}", "platform": {rules}, "revision": 3,
                "taken": {taken}{added}}}{added}}}"#
        );
        serde_json::from_str::<Carriers>(&text).unwrap()
    };
    let added = r#", "voice": "quic""#;
    assert_eq!(answer(added), answer(""));
    assert!(serde_json::from_str::<SetCarriers>(&rules("")).is_ok());
    assert!(serde_json::from_str::<SetCarriers>(&rules(added)).is_err());
}
