//! A bulk operation that fails on data is halved until the poison is alone, so that one bad item
//! costs log2(n) more calls and no good item its success.

use std::future::Future;

/// Why a run over several items failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BisectError<E> {
    /// Some item is to blame: halve and try again.
    Data(E),
    /// The whole operation failed, whatever the items: stop.
    Whole(E),
}

/// Runs `run` over all items; on [`BisectError::Data`] over each half, down to single items.
///
/// Answers one result per item, in their order: `Err` for an item that failed alone. `run` answers
/// one outcome per item. A [`BisectError::Whole`] ends everything with that error; items that
/// succeeded before it are not undone, so `run` must be safe to repeat.
pub async fn bisect<I, O, E, F, Fut>(items: Vec<I>, run: F) -> Result<Vec<Result<O, E>>, E>
where
    I: Clone,
    F: Fn(Vec<I>) -> Fut,
    Fut: Future<Output = Result<Vec<O>, BisectError<E>>>,
{
    let mut results: Vec<Result<O, E>> = Vec::with_capacity(items.len());
    // Ranges still to run, the first on top.
    let mut ranges = vec![(0, items.len())];
    while let Some((from, to)) = ranges.pop() {
        if from == to {
            continue;
        }
        match run(items[from..to].to_vec()).await {
            Ok(outcomes) => results.extend(outcomes.into_iter().map(Ok)),
            Err(BisectError::Whole(error)) => return Err(error),
            Err(BisectError::Data(error)) if to - from == 1 => results.push(Err(error)),
            Err(BisectError::Data(_)) => {
                let middle = from + (to - from) / 2;
                ranges.push((middle, to));
                ranges.push((from, middle));
            }
        }
    }
    Ok(results)
}
