//! Reads what the others have counted together.

use grafos_std::{fail, Failure, Json, Output, ToJson};

use crate::shared::Count;

/// Words that the answer names.
const MOST: usize = 5;

/// The count of all texts. `most` are the most frequent words.
#[derive(ToJson)]
pub struct Total {
    pub texts: u32,
    pub words: u64,
    pub different: usize,
    pub most: Vec<String>,
}

/// What a list of words and counts comes to.
pub fn compute(texts: u32, all: &[(String, u64)]) -> Total {
    let most = all.iter().take(MOST).map(|(word, times)| format!("{word} {times}")).collect();
    Total { texts, words: all.iter().map(|(_, times)| times).sum(), different: all.len(), most }
}

/// Its input are the responses of those that counted, each with the region.
#[grafos_std::tasklet]
pub fn total(input: &[u8]) -> Result<Output, Failure> {
    let Ok(input) = Json::parse(input) else { return fail("invalid_input") };
    let shared = Count::open(input.get("north").and_then(|north| north.get("region")))?;
    let all = shared.all()?;
    let lines: String = all.iter().map(|(word, times)| format!("{word} {times}\n")).collect();
    Ok(Output::json(compute(shared.texts()?, &all)).with_bytes(lines))
}
