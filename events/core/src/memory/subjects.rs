use std::collections::BTreeMap;

use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::{MemoryLog, State, ready};
use crate::{
    log::ReadError,
    personal::{MAX_SUBJECTS, SubjectChange, SubjectKeys},
};

impl SubjectKeys for MemoryLog {
    fn keys(
        &self,
        subjects: Vec<Uuid>,
    ) -> BoxFuture<'_, Result<BTreeMap<Uuid, Vec<u8>>, ReadError>> {
        let state = self.state();
        let asked = subjects.into_iter().take(MAX_SUBJECTS);
        let found =
            asked.filter_map(|subject| Some((subject, state.subjects.get(&subject)?.clone())));
        ready(Ok(found.collect()))
    }
}

impl State {
    pub(super) fn change_subjects(&mut self, changes: Vec<SubjectChange>) {
        for change in changes {
            match change.left() {
                Some(wrapped) => self.subjects.insert(change.subject(), wrapped.to_vec()),
                None => self.subjects.remove(&change.subject()),
            };
        }
    }
}
