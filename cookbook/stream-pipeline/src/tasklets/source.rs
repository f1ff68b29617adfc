//! Passes the numbers of its input on, in chunks.

use grafos_std::{fail, Failure, Json, LeaseRef, Output, ToJson};

use crate::edges::{Edge, Edges, CHUNK};

/// What each stage tells the next one.
#[derive(ToJson)]
pub struct Passed {
    pub region: LeaseRef,
    pub chunks: u64,
}

/// A source that was stopped goes on with the chunk that the edge waits for, so it may run again.
#[grafos_std::tasklet]
pub fn source(input: &[u8]) -> Result<Output, Failure> {
    let Ok(input) = Json::parse(input) else { return fail("invalid_input") };
    let edges = Edges::open(&input)?;
    let Some(values) = numbers(&input) else { return fail("invalid_input") };
    let chunks: Vec<_> = values.chunks(CHUNK).map(<[u32]>::to_vec).collect();
    let mut to = edges.sender(Edge::SourceToDouble)?;
    let next = to.next()? as usize;
    for chunk in chunks.iter().skip(next) {
        to.send(chunk)?;
    }
    if next <= chunks.len() {
        to.finish()?;
    }
    Ok(Output::json(Passed { region: edges.reference()?, chunks: chunks.len() as u64 }))
}

fn numbers(input: &Json) -> Option<Vec<u32>> {
    input.get("values")?.as_list()?.iter().map(|value| value.as_u64()?.try_into().ok()).collect()
}
