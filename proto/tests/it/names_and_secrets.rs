use proptest::prelude::*;
use rap_proto::{
    Name, NodeRole,
    name::MAX_NAME_BYTES,
    refusal::{MAX_MESSAGE_BYTES, Refusal, RefusalCode},
    secret::{ApiSecret, JoinSecret, LoginSecret, Secret},
};

#[test]
fn a_name_is_a_dns_label() {
    for right in ["a", "demo-ssh", "7", &"a".repeat(MAX_NAME_BYTES)] {
        assert!(right.parse::<Name>().is_ok(), "{right}");
    }
    let long = "a".repeat(MAX_NAME_BYTES + 1);
    for wrong in ["", "-a", "a-", "A", "a b", "a.b", "a/b", "a\nb", "a\"b", "a$b", "ü", &long] {
        assert!(wrong.parse::<Name>().is_err(), "{wrong:?}");
        let json = serde_json::to_string(wrong).unwrap();
        assert!(serde_json::from_str::<Name>(&json).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_secret_opens_one_kind_of_thing() {
    let secret = Secret::<JoinSecret>::from_random([7; 32]);
    let text = secret.reveal();
    assert!(text.starts_with("rapj_"));
    assert!(Secret::<JoinSecret>::parse(&text).unwrap().matches(&secret.digest()));
    assert!(Secret::<ApiSecret>::parse(&text).is_err());
    let as_login = Secret::<LoginSecret>::from_random([7; 32]);
    assert!(!as_login.matches(&secret.digest()), "the kind is part of the digest");
}

#[test]
fn a_secret_does_not_print() {
    let secret = Secret::<JoinSecret>::from_random([7; 32]);
    assert_eq!(format!("{secret:?}"), "rapj_…");
}

#[test]
fn an_unknown_word_says_which_are_known() {
    let message = "entry".parse::<NodeRole>().unwrap_err().to_string();
    assert!(message.contains("entry-node") && message.contains("relay-node"), "{message}");
    assert!(serde_json::from_str::<NodeRole>("\"entry\"").is_err());
}

#[test]
fn a_refusal_message_is_cut_at_its_bound() {
    let refusal = Refusal::new(RefusalCode::LimitReached, "ä".repeat(MAX_MESSAGE_BYTES));
    assert_eq!(refusal.message.len(), MAX_MESSAGE_BYTES);
    let odd = Refusal::new(RefusalCode::LimitReached, format!("a{}", "ä".repeat(200)));
    assert_eq!(odd.message.len(), MAX_MESSAGE_BYTES - 1);
}

proptest! {
    #[test]
    fn parsing_never_panics(text in ".{0,80}") {
        let _ = text.parse::<Name>();
        let _ = Secret::<JoinSecret>::parse(&text);
    }
}
