//! The votes for beats.

use std::sync::Arc;

use rap_proto::Digest;

use crate::beat::{BeatTable, BeatTableError, MAX_PROPOSAL_BYTES, Proposal, Vote};

fn proposal(sequence: u64, text: &str) -> Proposal {
    Proposal { sequence, payload: text.as_bytes().to_vec() }
}

/// Runs every case; `fresh` makes an empty table for each.
pub async fn run_all(fresh: impl AsyncFn() -> Arc<dyn BeatTable>) {
    a_proposal_gives_way_only_to_a_later_one(fresh().await.as_ref()).await;
    a_replica_votes_once_for_each_sequence(fresh().await.as_ref()).await;
}

/// The newest proposal stays, whoever comes late.
pub async fn a_proposal_gives_way_only_to_a_later_one(table: &dyn BeatTable) {
    assert_eq!(table.read_ballot().await.expect("the table answers").proposal, None);
    assert!(table.propose(proposal(3, "three")).await.expect("the table answers"));
    for late in [2, 3] {
        assert!(!table.propose(proposal(late, "late")).await.expect("the table answers"), "{late}");
    }
    assert!(table.propose(proposal(4, "four")).await.expect("the table answers"));
    assert_eq!(
        table.read_ballot().await.expect("the table answers").proposal,
        Some(proposal(4, "four"))
    );
    let payload = vec![0; MAX_PROPOSAL_BYTES + 1];
    let refused = table.propose(Proposal { sequence: 5, payload }).await;
    assert_eq!(refused, Err(BeatTableError::TooLarge { actual: MAX_PROPOSAL_BYTES + 1 }));
}

/// A replica votes once for a sequence, and signs what it voted for and nothing else.
pub async fn a_replica_votes_once_for_each_sequence(table: &dyn BeatTable) {
    let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
    let (payload, other) = (Digest::of(b"payload"), Digest::of(b"other"));
    assert!(
        !table.sign(one, 1, payload, [1; 64]).await.expect("the table answers"),
        "nothing was voted for"
    );
    assert!(table.vote(one, 5, payload).await.expect("the table answers"));
    for (sequence, payload) in [(5, other), (5, payload), (4, payload)] {
        assert!(
            !table.vote(one, sequence, payload).await.expect("the table answers"),
            "{sequence}"
        );
    }
    assert!(!table.sign(one, 5, other, [1; 64]).await.expect("the table answers"));
    assert!(table.sign(one, 5, payload, [1; 64]).await.expect("the table answers"));
    assert!(table.vote(two, 5, other).await.expect("the table answers"), "each votes for itself");
    let votes = table.read_ballot().await.expect("the table answers").votes;
    let mut expected = [
        Vote { replica: one, sequence: 5, payload, signature: Some([1; 64]) },
        Vote { replica: two, sequence: 5, payload: other, signature: None },
    ];
    expected.sort_by_key(|vote| vote.replica);
    assert_eq!(votes, expected);
    assert!(table.vote(one, 6, other).await.expect("the table answers"));
    let vote = table
        .read_ballot()
        .await
        .expect("the table answers")
        .votes
        .into_iter()
        .find(|v| v.replica == one);
    assert_eq!(vote.expect("it stands").signature, None, "a later vote is not signed yet");
}
