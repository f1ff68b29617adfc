//! Takes what comes, in the order in which it was sent.

use grafos_std::{fail, Failure, Json, Output, ToJson};

use crate::edges::{Edge, Edges};

#[derive(ToJson)]
struct Taken {
    values: Vec<u32>,
}

#[grafos_std::tasklet]
pub fn sink(input: &[u8]) -> Result<Output, Failure> {
    let Ok(input) = Json::parse(input) else { return fail("invalid_input") };
    let mut from = Edges::open(&input)?.receiver(Edge::DoubleToSink)?;
    let mut values = Vec::new();
    while let Some(chunk) = from.recv()? {
        values.extend(chunk);
    }
    Ok(Output::json(Taken { values }))
}
