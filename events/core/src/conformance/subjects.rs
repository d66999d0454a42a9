//! What every log must do with the wrapped keys of subjects.

use std::{collections::BTreeMap, sync::Arc};

use uuid::Uuid;

use super::{command, head, stored, write};
use crate::{
    log::{Append, AppendError, Limit, Log},
    personal::{
        MAX_SUBJECT_CHANGES_PER_APPEND, MAX_SUBJECTS, MAX_WRAPPED_KEY_BYTES, SubjectChange,
        SubjectKeys,
    },
};

const ONE: Uuid = Uuid::from_u128(1);
const TWO: Uuid = Uuid::from_u128(2);
const THREE: Uuid = Uuid::from_u128(3);

/// Runs over an empty log; `keys` is where it keeps them.
pub async fn run(log: Arc<dyn Log>, keys: Arc<dyn SubjectKeys>) {
    a_key_comes_and_goes_with_the_events(&log, &keys).await;
    what_is_not_stored_changes_no_key(&log, &keys).await;
    the_last_change_of_an_append_counts(&log, &keys).await;
    every_limit_is_enforced(&log, &keys).await;
}

async fn a_key_comes_and_goes_with_the_events(log: &Arc<dyn Log>, keys: &Arc<dyn SubjectKeys>) {
    assert_eq!(all(keys).await, BTreeMap::new());
    stored(log, changing(1, 0, vec![keep(ONE, 1), keep(TWO, 2)])).await;
    assert_eq!(all(keys).await, held(&[(ONE, 1), (TWO, 2)]));
    stored(log, changing(2, 1, vec![destroy(ONE), destroy(THREE)])).await;
    assert_eq!(all(keys).await, held(&[(TWO, 2)]));
}

async fn what_is_not_stored_changes_no_key(log: &Arc<dyn Log>, keys: &Arc<dyn SubjectKeys>) {
    let moved = log.append(changing(3, 1, vec![destroy(TWO), keep(ONE, 9)])).await;
    assert!(matches!(moved, Err(AppendError::Conflict { .. })), "{moved:?}");
    assert_eq!(all(keys).await, held(&[(TWO, 2)]));
    // A command that is known is answered, and does nothing: an erased subject stays so.
    let again = stored(log, changing(1, 0, vec![keep(ONE, 1), keep(TWO, 2)])).await;
    assert!(again.replayed);
    assert_eq!(all(keys).await, held(&[(TWO, 2)]));
}

async fn the_last_change_of_an_append_counts(log: &Arc<dyn Log>, keys: &Arc<dyn SubjectKeys>) {
    let changes = vec![keep(TWO, 7), destroy(TWO), keep(ONE, 8), keep(ONE, 9)];
    stored(log, Append { subjects: changes, ..command(4, Vec::new()) }).await;
    assert_eq!(all(keys).await, held(&[(ONE, 9)]));
}

async fn every_limit_is_enforced(log: &Arc<dyn Log>, keys: &Arc<dyn SubjectKeys>) {
    let before = head(log).await;
    let many = vec![destroy(ONE); MAX_SUBJECT_CHANGES_PER_APPEND + 1];
    let large = vec![0_u8; MAX_WRAPPED_KEY_BYTES + 1];
    let large = vec![SubjectChange::Keep { subject: TWO, wrapped: large.into() }];
    for (limit, changes) in [(Limit::SubjectChanges, many), (Limit::WrappedKeyBytes, large)] {
        let refused = log.append(changing(5, 2, changes)).await;
        let named =
            matches!(&refused, Err(AppendError::TooLarge { limit: of, .. }) if *of == limit);
        assert!(named, "{refused:?}");
    }
    assert_eq!(head(log).await, before);
    let beyond = (10..).map(Uuid::from_u128).take(MAX_SUBJECTS).chain([ONE]).collect();
    assert_eq!(find(keys, beyond).await, BTreeMap::new(), "only so many are asked for");

    let most = (10..).map(Uuid::from_u128).take(MAX_SUBJECT_CHANGES_PER_APPEND);
    let wrapped = vec![5_u8; MAX_WRAPPED_KEY_BYTES];
    let keep = |subject| SubjectChange::Keep { subject, wrapped: wrapped.clone().into() };
    stored(log, changing(5, 2, most.clone().map(keep).collect())).await;
    assert_eq!(find(keys, most.clone().collect()).await.len(), MAX_SUBJECT_CHANGES_PER_APPEND);
    stored(log, changing(6, 3, most.clone().map(destroy).collect())).await;
    assert_eq!(find(keys, most.collect()).await, BTreeMap::new());
}

fn keep(subject: Uuid, wrapped: u8) -> SubjectChange {
    SubjectChange::Keep { subject, wrapped: vec![wrapped].into() }
}

fn destroy(subject: Uuid) -> SubjectChange {
    SubjectChange::Destroy { subject }
}

fn changing(id: u128, expected: u64, subjects: Vec<SubjectChange>) -> Append {
    Append { subjects, ..command(id, vec![write(1, expected, &["a"])]) }
}

fn held(keys: &[(Uuid, u8)]) -> BTreeMap<Uuid, Vec<u8>> {
    keys.iter().map(|(subject, wrapped)| (*subject, vec![*wrapped])).collect()
}

async fn all(keys: &Arc<dyn SubjectKeys>) -> BTreeMap<Uuid, Vec<u8>> {
    find(keys, vec![ONE, TWO, THREE]).await
}

async fn find(keys: &Arc<dyn SubjectKeys>, subjects: Vec<Uuid>) -> BTreeMap<Uuid, Vec<u8>> {
    keys.keys(subjects).await.expect("keys are read")
}
