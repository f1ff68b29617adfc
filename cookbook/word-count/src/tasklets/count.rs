//! Counts the words of one text into the region that it shares with others.

use std::collections::BTreeMap;

use grafos_std::{fail, Failure, Json, LeaseRef, Output, Tasklet, ToJson};

use crate::shared::Count;

/// What one text added.
#[derive(ToJson)]
pub struct Counted {
    pub region: LeaseRef,
    pub provider: String,
    pub words: u64,
    pub different: usize,
}

/// How often each word is in a text: letters and digits that stand together, in lower case.
pub fn compute(text: &str) -> BTreeMap<String, u64> {
    let mut words = BTreeMap::new();
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        *words.entry(word.to_lowercase()).or_insert(0) += 1;
    }
    words
}

/// Adds each word of the text once, however often it is in it. Its output bytes have a line for each: the word, what was
/// counted of it before, and how much was added.
fn count(input: &[u8]) -> Result<Output, Failure> {
    let Ok(input) = Json::parse(input) else { return fail("invalid_input") };
    let mut shared = Count::open(input.get("region"))?;
    let Some(text) = input.get("text").and_then(Json::as_str) else { return fail("missing_text") };
    let found = compute(text);
    let mut lines = String::new();
    for (word, times) in &found {
        let before = shared.add(word, *times)?;
        lines += &format!("{word} {before} {times}\n");
    }
    let texts = shared.text_done()?;
    grafos_std::log!("{} words; texts counted so far: {texts}", found.len());
    let counted = Counted {
        region: shared.reference()?,
        provider: Tasklet::context().provider,
        words: found.values().sum(),
        different: found.len(),
    };
    Ok(Output::json(counted).with_bytes(lines))
}

#[grafos_std::tasklet]
pub fn north(input: &[u8]) -> Result<Output, Failure> {
    count(input)
}

#[grafos_std::tasklet]
pub fn south(input: &[u8]) -> Result<Output, Failure> {
    count(input)
}

#[cfg(test)]
mod tests {
    use grafos_std::host::{MockFabric, MockFaults, MockTasklet};

    use super::*;

    #[test]
    fn words_are_letters_in_lower_case() {
        let words = compute("The lake; the LAKE's 2 fish -- é");
        let wanted = [("2", 1), ("fish", 1), ("lake", 2), ("s", 1), ("the", 2), ("é", 1)];
        assert!(words.iter().map(|(word, times)| (word.as_str(), *times)).eq(wanted));
        assert!(compute(" .\n").is_empty());
    }

    #[test]
    fn what_it_cannot_count_ends_with_a_name() {
        let fabric = MockFabric::new();
        let region = fabric.reference(fabric.lease_memory(4096));
        let small = fabric.reference(fabric.lease_memory(256));
        let (long, many) = ("x".repeat(33), (0..100).map(|number| format!("w{number} ")).collect::<String>());
        for (input, text) in [
            ("{".to_owned(), "invalid_input"),
            ("{}".to_owned(), "missing_region"),
            (r#"{"region":{},"text":"a"}"#.to_owned(), "missing_region"),
            (format!(r#"{{"region":{region}}}"#), "missing_text"),
            (r#"{"region":{"lease_id":"none"},"text":"a"}"#.to_owned(), "io_error -22"),
            (format!(r#"{{"region":{region},"text":"{long}"}}"#), "word_too_long"),
            (format!(r#"{{"region":{small},"text":"{many}"}}"#), "capacity_exceeded"),
        ] {
            let ran = fabric.run(MockTasklet::new(north).input(input.as_bytes()));
            assert_eq!((ran.code, ran.text.as_str()), ("program_error", text), "{input}");
        }
    }

    #[test]
    fn a_run_that_was_stopped_under_the_lock_keeps_it() {
        for last in 1.. {
            let fabric = MockFabric::new();
            let region = fabric.reference(fabric.lease_memory(4096));
            let input = format!(r#"{{"region":{region},"text":"a"}}"#);
            let run = || fabric.run(MockTasklet::new(north).input(input.as_bytes()));
            fabric.set_faults(MockFaults { cut_after_calls: Some(last), ..MockFaults::default() });
            assert_ne!(run().code, "finished", "no run was stopped under the lock");
            fabric.set_faults(MockFaults::default());
            if run().text == "lock_busy" {
                return;
            }
        }
    }
}
