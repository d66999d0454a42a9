//! Pages: a stable order, a cursor that is the last item's key, and a cap.

use rap_proto::api::{DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, Page, Problem, ProblemCode};

use super::{call::Call, failure::Failure};

/// How many items this page may have.
pub(crate) fn limit(call: &Call) -> Result<usize, Failure> {
    let limit = call.query_value::<usize>("limit")?.unwrap_or(DEFAULT_PAGE_SIZE);
    if limit == 0 || limit > MAX_PAGE_SIZE {
        return Err(Problem::new(
            ProblemCode::MalformedRequest,
            format!("a page has 1 to {MAX_PAGE_SIZE} items"),
        )
        .rule("max_page_size")
        .field("limit")
        .into());
    }
    Ok(limit)
}

/// The page of `items` behind the cursor. The items come in the order of their keys.
pub(crate) fn of<T, K, R>(
    call: &Call,
    items: impl Iterator<Item = T>,
    key: impl Fn(&T) -> K,
    show: impl Fn(T) -> R,
) -> Result<Page<R>, Failure>
where
    K: Ord + ToString + std::str::FromStr,
{
    let limit = limit(call)?;
    let after: Option<K> = call.query_value("after")?;
    let mut behind = items.filter(|item| after.as_ref().is_none_or(|after| key(item) > *after));
    let mut last = None;
    let mut shown = Vec::new();
    for item in behind.by_ref().take(limit) {
        last = Some(key(&item).to_string());
        shown.push(show(item));
    }
    let next = if behind.next().is_some() { last } else { None };
    Ok(Page { items: shown, next })
}
