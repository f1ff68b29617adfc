//! Doubles each number; what would be too large is the largest there is.

use grafos_std::{fail, Failure, Json, Output};
use grafos_stream::Stage;

use crate::edges::{Edge, Edges};
use crate::tasklets::source::Passed;

/// What the stage makes of a chunk.
pub fn compute(chunk: &[u32]) -> Vec<u32> {
    chunk.iter().map(|value| value.saturating_mul(2)).collect()
}

/// A stage that was stopped passes no chunk on twice, so it may run again.
#[grafos_std::tasklet]
pub fn double(input: &[u8]) -> Result<Output, Failure> {
    let Ok(input) = Json::parse(input) else { return fail("invalid_input") };
    let edges = Edges::open(&input)?;
    let (from, to) = (edges.receiver(Edge::SourceToDouble)?, edges.sender(Edge::DoubleToSink)?);
    let chunks = Stage::new(from, to, |chunk: Vec<u32>| Some(compute(&chunk))).run()?;
    Ok(Output::json(Passed { region: edges.reference()?, chunks }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_too_large_is_the_largest() {
        assert_eq!(compute(&[0, 21, u32::MAX / 2 + 1, u32::MAX]), [0, 42, u32::MAX, u32::MAX]);
    }
}
