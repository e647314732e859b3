//! Lists that are asked for page by page.

use tonic::Status;

/// A page has at most so many.
const MOST: usize = 100;

/// The entities from this id on, in the order of their ids, and whether these are the last.
pub(crate) fn page<T>(
    mut all: Vec<(i64, T)>,
    start: i64,
    max_results: i64,
) -> Result<(Vec<T>, bool), Status> {
    if start < 0 || max_results < 0 {
        return Err(Status::invalid_argument("neither an id nor a number of results is negative"));
    }
    all.retain(|(id, _)| *id >= start);
    all.sort_unstable_by_key(|(id, _)| *id);
    let room = match usize::try_from(max_results) {
        Ok(1..MOST) => max_results as usize,
        _ => MOST,
    };
    let end = all.len() <= room;
    Ok((all.into_iter().take(room).map(|(_, entity)| entity).collect(), end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other() {
        let all = || (1..=250).rev().map(|id| (id, id)).collect::<Vec<_>>();
        let (first, end) = page(all(), 0, 0).unwrap();
        assert_eq!((first.len(), first[0], end), (100, 1, false));
        let (last, end) = page(all(), 201, 0).unwrap();
        assert_eq!((last.len(), last[49], end), (50, 250, true));
        let (few, end) = page(all(), 249, 2).unwrap();
        assert_eq!((few, end), (vec![249, 250], true));
        let (none, end) = page(all(), 251, 7).unwrap();
        assert!(none.is_empty() && end);
        assert!(page(all(), -1, 0).is_err() && page(all(), 0, -1).is_err());
    }
}
