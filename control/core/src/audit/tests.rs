#![allow(clippy::unwrap_used)]

use rap_events::{
    Allowed, Envelope, EventCodec as _, Personal,
    catalogue::{REDACTED_FIELDS, redacted_fields},
    session::{Basis, Seen, SessionCommand},
    user::{User, UserCommand, UserCreated, UserEvent},
};
use rap_proto::{Digest, PublicKey, UserId, api::AuditEvent};
use serde_bytes::ByteBuf;

use super::{Audience, is_withheld, show, show_over};
use crate::world::{PHC, Platform, digest, key, person, token_id};

fn find<'a>(platform: &'a Platform, event_type: &str) -> &'a Envelope {
    platform.world.log.iter().find(|envelope| envelope.event_type == event_type).unwrap()
}

fn shown(platform: &Platform, event_type: &str, audience: Audience) -> Option<AuditEvent> {
    let own = platform.acme.egress;
    show(find(platform, event_type), audience, |node| node == own).unwrap()
}

const EVERYTHING: Audience = Audience::Platform { everything: true };

#[test]
fn an_event_shows_who_did_what_when_and_where() {
    let platform = Platform::new();
    let event = shown(&platform, "resource.created", EVERYTHING).unwrap();
    assert_eq!(event.category, "resource");
    assert_eq!(event.stream, platform.acme.resource.uuid());
    assert_eq!(event.organization, Some(platform.acme.id));
    assert_eq!(event.at, platform.world.now);
    assert_eq!(
        event.payload,
        serde_json::json!({
            "organization": platform.acme.id.to_string(),
            "name": "acme-ssh",
            "kind": "ssh",
            "target": { "host": "ssh.acme.example", "port": 22, "allow_local": false },
            "pool": platform.acme.pool.to_string(),
        })
    );
}

#[test]
fn by_what_somebody_was_allowed_is_shown_and_nothing_where_nobody_recorded_it() {
    let platform = Platform::new();
    assert_eq!(shown(&platform, "resource.created", EVERYTHING).unwrap().allowed, None);
    let basis = Basis {
        rules: ["builtin/organization_owner".to_owned()].into(),
        policy_hash: Some(Digest::of(b"policies")),
        entity_version: Some(3),
    };
    let allowed = Some(Allowed { actions: ["resource.create".to_owned()].into(), basis });
    let event = Envelope { allowed, ..find(&platform, "resource.created").clone() };
    for audience in [EVERYTHING, Audience::Organization(platform.acme.id)] {
        let allowed = show(&event, audience, |_| false).unwrap().unwrap().allowed.unwrap();
        assert_eq!(allowed.actions, ["resource.create"]);
        assert_eq!(allowed.rules, ["builtin/organization_owner"]);
        assert_eq!(allowed.policy_hash, Some(Digest::of(b"policies")));
        assert_eq!(allowed.entity_version, Some(3));
    }
}

#[test]
fn times_are_rfc_3339_keys_are_hexadecimal_and_serials_are_no_ids() {
    let platform = Platform::new();
    let login = shown(&platform, "login.opened", EVERYTHING).unwrap();
    let expires_at = platform.world.now + std::time::Duration::from_secs(7 * 86_400);
    assert_eq!(login.payload["expires_at"], expires_at.to_string());
    let issued = shown(&platform, "node.certificate_issued", EVERYTHING).unwrap();
    assert_eq!(issued.payload["serial"], "20".repeat(16));
    let session = shown(&platform, "session.requested", EVERYTHING).unwrap();
    let client_key: PublicKey =
        serde_json::from_value(session.payload["client_key"].clone()).unwrap();
    assert_eq!(client_key, key(77));
}

#[test]
fn no_secret_is_shown_in_any_event() {
    let platform = Platform::new();
    let secrets: Vec<String> = ["setup", "login of root", "token of root", "join acme"]
        .iter()
        .map(|text| digest(text))
        .map(|digest: Digest| digest.to_string())
        .chain([PHC.to_owned()])
        .collect();
    for envelope in &platform.world.log {
        let event = show(envelope, EVERYTHING, |_| true).unwrap().unwrap();
        let text = event.payload.to_string();
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "{} shows {secret}", envelope.event_type);
        }
        for field in redacted_fields(&envelope.event_type) {
            assert!(event.payload.get(field).is_none());
        }
    }
    assert!(REDACTED_FIELDS.len() >= 7);
}

#[test]
fn an_auditor_sees_the_events_of_the_own_organization_only() {
    let platform = Platform::new();
    let of_acme = Audience::Organization(platform.acme.id);
    for envelope in &platform.world.log {
        let event = show(envelope, of_acme, |_| true).unwrap();
        assert_eq!(event.is_some(), envelope.organization == Some(platform.acme.id));
        let of_platform = Audience::Platform { everything: false };
        let event = show(envelope, of_platform, |_| true).unwrap();
        assert_eq!(event.is_some(), envelope.organization.is_none());
    }
}

#[test]
fn an_organizations_auditor_is_shown_no_topology() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    let seen = Seen { node: acme.egress, sequence: 1, at: platform.world.now };
    let from = Some(rap_proto::observation::Vantage::Egress);
    platform.world.session(acme.session, SessionCommand::RecordStarted { seen, from });
    let of_acme = Audience::Organization(acme.id);
    for event_type in ["session.authorized", "session.started"] {
        let event = shown(&platform, event_type, of_acme).unwrap();
        let text = serde_json::to_string(&event).unwrap();
        assert!(!text.contains(&platform.entry.to_string()), "{text}");
        assert!(!text.contains("egresses") && !text.contains("entries"), "{text}");
    }
    for event_type in ["vpn_connection.created", "vpn_connection.lease_granted"] {
        let text = serde_json::to_string(&shown(&platform, event_type, of_acme).unwrap()).unwrap();
        assert!(!text.contains(&acme.egress.to_string()), "{text}");
    }
    let event = shown(&platform, "session.authorized", EVERYTHING).unwrap();
    assert!(event.payload["grant"]["egresses"][acme.egress.to_string()].is_number());
}

#[test]
fn audiences_follow_from_authorization() {
    let platform = Platform::new();
    let (acme, globex) = (platform.acme, platform.globex);
    let of = |user, organization| Audience::of(platform.state(), &person(user), organization);
    assert_eq!(of(acme.owner, Some(acme.id)), Some(Audience::Organization(acme.id)));
    assert_eq!(of(acme.user, Some(acme.id)), None);
    assert_eq!(of(globex.owner, Some(acme.id)), None);
    assert_eq!(of(acme.owner, None), None);
    assert_eq!(of(platform.owner, None), Some(EVERYTHING));
    assert_eq!(of(platform.admin, None), Some(Audience::Platform { everything: false }));
    assert_eq!(of(platform.admin, Some(acme.id)), None);
}

#[test]
fn what_is_about_a_person_is_not_shown_and_what_was_erased_is_said_to_be() {
    let mut platform = Platform::new();
    let user = platform.acme.user;
    let is_creation =
        |event: &&Envelope| event.event_type == "user.created" && event.stream.id == user.uuid();
    let created = platform.world.log.iter().find(is_creation).unwrap().clone();
    let holding = |display_name| {
        let event = UserCreated { name: "alice".parse().unwrap(), display_name };
        Envelope { payload: UserEvent::from(event).encode().into(), ..created.clone() }
    };
    let sealed = holding(Personal::Sealed(ByteBuf::from(b"Alice".to_vec())));
    let (clear, empty) =
        (holding(Personal::Clear("Alice".to_owned())), holding(Personal::default()));
    let shown = |platform: &Platform, envelope: &Envelope| {
        let event = show_over(platform.state(), envelope, EVERYTHING).unwrap().unwrap();
        event.payload["display_name"].as_str().unwrap().to_owned()
    };
    for (envelope, before, after) in
        [(&sealed, "personal", "erased"), (&clear, "personal", "erased"), (&empty, "", "")]
    {
        let mut platform = Platform::new();
        assert_eq!(shown(&platform, envelope), before);
        assert!(!is_withheld(platform.state(), envelope));
        platform.must::<User>(user.uuid(), UserCommand::Erase);
        assert_eq!(shown(&platform, envelope), after);
        assert!(is_withheld(platform.state(), envelope));
    }
    platform.must::<User>(user.uuid(), UserCommand::Erase);
    let of_another = Envelope { stream: find(&platform, "user.created").stream.clone(), ..sealed };
    assert_eq!(shown(&platform, &of_another), "personal", "others are as they were");
    let withheld = |event_type| is_withheld(platform.state(), find(&platform, event_type));
    assert!(withheld("login.opened") && !withheld("user.erased"));
}

#[test]
fn a_device_is_its_users_and_is_erased_with_them() {
    let mut platform = Platform::new();
    let (user, other) = (platform.acme.user, platform.globex.user);
    let device = |platform: &Platform, user: UserId| {
        let login = platform.state().logins().of(user).next().unwrap();
        let of_login = |event: &&Envelope| {
            event.event_type == "login.opened" && event.stream.id == login.id.uuid()
        };
        let opened = platform.world.log.iter().find(of_login).unwrap();
        let shown = show_over(platform.state(), opened, EVERYTHING).unwrap().unwrap();
        (shown.payload["device"].as_str().unwrap().to_owned(), login.device.clone())
    };
    let (shown, folded) = device(&platform, user);
    assert_eq!(shown, "personal");
    assert!(matches!(folded, Personal::Sealed(_)));
    platform.must::<User>(user.uuid(), UserCommand::Erase);
    assert_eq!(device(&platform, user), ("erased".to_owned(), Personal::default()));
    assert_eq!(device(&platform, other), (shown, folded), "others are as they were");
}

#[test]
fn a_label_is_its_users_and_is_erased_with_them() {
    let mut platform = Platform::new();
    let (user, other) = (platform.acme.user, platform.globex.user);
    let label = |platform: &Platform, user: UserId| {
        let folded = platform.state().api_tokens().get(token_id(user)).unwrap().label.clone();
        let of_token = |event: &&Envelope| {
            event.event_type == "api_token.created" && event.stream.id == token_id(user).uuid()
        };
        let created = platform.world.log.iter().find(of_token).unwrap();
        let shown = show_over(platform.state(), created, EVERYTHING).unwrap().unwrap();
        (shown.payload["label"].as_str().unwrap().to_owned(), folded)
    };
    let (shown, folded) = label(&platform, user);
    assert_eq!(shown, "personal");
    assert!(matches!(folded, Personal::Sealed(_)));
    platform.must::<User>(user.uuid(), UserCommand::Erase);
    assert_eq!(label(&platform, user), ("erased".to_owned(), Personal::default()));
    assert_eq!(label(&platform, other), (shown, folded), "others are as they were");
}
