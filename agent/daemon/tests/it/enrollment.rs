//! A host becomes a node: approval, interruption, and everything that must fail.

use std::{
    os::unix::fs::PermissionsExt as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rap_node_agent::{AgentState, CallError, JoinError, Joined, RunError, join, start};
use rap_proto::{
    Digest,
    wire::node_api::{MAX_SERVERS, NodeApiCode},
};
use tokio::net::TcpListener;

use crate::control::{Control, PATIENCE, files, free_port, report, token, until};

fn multi() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn refused(error: JoinError) -> Option<NodeApiCode> {
    match error {
        JoinError::Control(CallError::Refused(refusal)) => Some(refusal.code),
        _ => None,
    }
}

#[test]
fn an_approved_host_gets_its_certificate_and_keeps_no_token() {
    multi().block_on(async {
        let control = Control::start().await;
        control.desk().auto_approve = false;
        let options = control.join_options();
        let mut told = None;
        let joining = join(options, |node, fingerprint| told = Some((node, fingerprint)));
        let approving = async {
            until("it asks for approval", || control.desk().polls > 0).await;
            control.desk().auto_approve = true;
        };
        let (joined, ()) = tokio::join!(joining, approving);
        let node = control.node();
        assert_eq!(joined.unwrap(), Joined::Enrolled { node });
        let key = control.desk().node.as_ref().unwrap().key;
        assert_eq!(told, Some((node, key.id())), "what the approver compares");
        let request = control.desk().node.as_ref().unwrap().request.clone();
        assert!(request.bus_key.starts_with('U') && !request.addresses.is_empty());
        assert!(!request.capabilities.is_empty());

        let secret = token().reveal();
        for file in files(&control.state_dir()) {
            let mode = std::fs::metadata(&file).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{} is private", file.display());
            let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
            assert!(!text.contains(&secret), "{} holds the token", file.display());
        }
        let again = join(control.join_options(), |_, _| {}).await.unwrap_err();
        assert!(matches!(again, JoinError::AlreadyJoined { node: found } if found == node));
    });
}

#[test]
fn an_interrupted_enrollment_goes_on_without_a_second_token() {
    multi().block_on(async {
        let control = Control::start().await;
        control.desk().auto_approve = false;
        let short = || {
            let mut options = control.join_options();
            options.wait = Duration::ZERO;
            options
        };
        let first = join(short(), |_, _| {}).await.unwrap();
        let Joined::Pending { node, .. } = first else { panic!("{first:?}") };
        let second = join(short(), |_, _| {}).await.unwrap();
        assert!(matches!(second, Joined::Pending { node: found, .. } if found == node));
        let mut elsewhere = short();
        elsewhere.control = "https://other.example".parse().unwrap();
        let error = join(elsewhere, |_, _| {}).await.unwrap_err();
        assert!(matches!(error, JoinError::PendingElsewhere { .. }));

        let mut agent = start(control.run_options()).unwrap();
        until("the agent waits", || {
            agent.status().is_some_and(|report| report.state == AgentState::Pending)
        })
        .await;
        control.desk().auto_approve = true;
        assert_eq!(agent.ready().await.unwrap().node, node);
        agent.stop().await.unwrap();
    });
}

#[test]
fn a_host_joins_at_the_next_server_where_the_first_one_is_down() {
    multi().block_on(async {
        let control = Control::start().await;
        control.desk().auto_approve = false;
        let down: rap_node_agent::ControlUrl = format!("https://{}", free_port()).parse().unwrap();
        let options = |control: &Control| {
            let mut options = control.join_options();
            options.others = vec![std::mem::replace(&mut options.control, down.clone())];
            options.wait = Duration::ZERO;
            options
        };
        let joined = join(options(&control), |_, _| {}).await.unwrap();
        assert!(matches!(joined, Joined::Pending { .. }), "{joined:?}");
        control.desk().auto_approve = true;
        let joined = join(options(&control), |_, _| {}).await.unwrap();
        assert_eq!(joined, Joined::Enrolled { node: control.node() });
        let agent = control.run().await;
        until("it knows both", || agent.status().is_some_and(|it| it.control.servers == 2)).await;
        agent.stop().await.unwrap();

        let mut many = control.join_options();
        many.state_dir = control.state_dir().with_extension("many");
        many.others = vec![down.clone(); MAX_SERVERS + 1];
        let error = join(many, |_, _| {}).await.unwrap_err();
        assert!(matches!(error, JoinError::TooManyServers), "{error}");
    });
}

#[test]
fn a_server_that_was_down_is_asked_once_and_the_servers_of_every_run_are_known() {
    multi().block_on(async {
        let control = Control::start().await;
        control.desk().auto_approve = false;
        let asked = Arc::new(AtomicUsize::new(0));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let down = format!("https://{}", listener.local_addr().unwrap()).parse().unwrap();
        let counted = asked.clone();
        tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut options = control.join_options();
        options.others = vec![std::mem::replace(&mut options.control, down)];
        options.wait = Duration::ZERO;
        let joined = join(options, |_, _| {}).await.unwrap();
        assert!(matches!(joined, Joined::Pending { .. }), "{joined:?}");
        assert!(control.desk().polls > 0);
        assert_eq!(asked.load(Ordering::Relaxed), 1);

        control.desk().auto_approve = true;
        let mut options = control.join_options();
        options.others = vec![format!("https://{}", free_port()).parse().unwrap()];
        let joined = join(options, |_, _| {}).await.unwrap();
        assert_eq!(joined, Joined::Enrolled { node: control.node() });
        let agent = control.run().await;
        until("it knows all", || agent.status().is_some_and(|it| it.control.servers == 3)).await;
        agent.stop().await.unwrap();
    });
}

#[test]
fn an_enrollment_whose_answer_was_lost_is_the_same_one_at_the_next_server() {
    multi().block_on(async {
        let control = Control::start().await;
        let other = control.another_server().await;
        let mut options = control.join_options();
        options.others = vec![format!("https://{}", other.address).parse().unwrap()];
        control.desk().loses_answer = true;
        let joined = join(options, |_, _| {}).await.unwrap();
        assert!(!control.desk().loses_answer);
        assert_eq!(joined, Joined::Enrolled { node: control.node() });
    });
}

#[test]
fn a_second_use_of_a_token_and_a_wrong_one_are_refused() {
    multi().block_on(async {
        let control = Control::start().await;
        join(control.join_options(), |_, _| {}).await.unwrap();
        let mut second = control.join_options();
        second.state_dir = control.state_dir().with_extension("second");
        let error = join(second, |_, _| {}).await.unwrap_err();
        assert_eq!(refused(error), Some(NodeApiCode::TokenUsed));
        let mut wrong = control.join_options();
        wrong.state_dir = control.state_dir().with_extension("wrong");
        wrong.token = rap_proto::secret::Secret::from_random([1; 32]);
        let error = join(wrong, |_, _| {}).await.unwrap_err();
        assert_eq!(refused(error), Some(NodeApiCode::TokenInvalid));
    });
}

#[test]
fn the_token_is_not_shown_to_a_server_of_another_authority() {
    multi().block_on(async {
        let control = Control::start().await;
        let mut options = control.join_options();
        options.ca = Digest::of(b"another authority");
        let error = join(options, |_, _| {}).await.unwrap_err();
        assert!(matches!(error, JoinError::Control(CallError::Lost(_))), "{error}");
        assert!(control.desk().node.is_none());
        join(control.join_options(), |_, _| {}).await.expect("the token was not used");
    });
}

#[test]
fn a_rejection_is_final() {
    multi().block_on(async {
        let control = Control::start().await;
        control.desk().auto_approve = false;
        let rejecting = async {
            until("it asks for approval", || control.desk().polls > 0).await;
            control.desk().rejected = true;
        };
        let (joined, ()) = tokio::join!(join(control.join_options(), |_, _| {}), rejecting);
        assert!(matches!(joined, Err(JoinError::Rejected)));
        let mut agent = start(control.run_options()).unwrap();
        let ended = tokio::time::timeout(PATIENCE, agent.ready()).await.unwrap();
        assert!(matches!(ended, Err(RunError::Enrollment(JoinError::Rejected))));
    });
}

#[test]
fn a_host_that_never_joined_says_so() {
    multi().block_on(async {
        let control = Control::start().await;
        let mut agent = start(control.run_options()).unwrap();
        let ended = tokio::time::timeout(PATIENCE, agent.ready()).await.unwrap();
        assert!(matches!(ended, Err(RunError::NotJoined)));
    });
}

#[test]
fn one_state_directory_serves_one_agent() {
    multi().block_on(async {
        let control = Control::start().await;
        let agent = control.agent().await;
        let mut second = start(control.run_options()).unwrap();
        let ended = tokio::time::timeout(PATIENCE, second.ready()).await.unwrap();
        assert!(matches!(ended, Err(RunError::State(_))));
        assert_eq!(report(&agent).state, AgentState::Starting);
        agent.stop().await.unwrap();
    });
}
