#![allow(clippy::unwrap_used)]

use super::*;
use crate::{Name, OrganizationId};

#[test]
fn every_problem_has_a_status_of_failure_and_finds_its_code_again() {
    for code in ProblemCode::ALL {
        let problem = Problem::new(*code, "detail");
        assert!((400..600).contains(&problem.status), "{code}");
        assert_eq!(problem.code(), Some(*code));
    }
    let mut unknown = Problem::new(ProblemCode::Internal, "detail");
    unknown.kind.push_str("_of_a_newer_server");
    assert_eq!(unknown.code(), None);
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
