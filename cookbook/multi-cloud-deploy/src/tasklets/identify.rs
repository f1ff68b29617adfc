//! Says where it runs. Asked for one place, it answers from no other: so a signed answer proves the place.

use grafos_std::{log, Context, Failure, Output, Tasklet};
use serde::{Deserialize, Serialize};

/// What is asked: a provider, and if it matters a cell and a region; `echo` is any text.
#[derive(Deserialize)]
pub struct IdentifyInput {
    pub provider: String,
    #[serde(default)]
    pub cell_id: String,
    #[serde(default)]
    pub region: String,
    #[serde(default)]
    pub echo: String,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct WhereItRan {
    pub provider: String,
    pub cell_id: String,
    pub region: String,
}

/// What is answered; `echo_len` counts bytes.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct IdentifyOutput {
    pub ran_on: WhereItRan,
    pub echo_len: usize,
    pub module_version: &'static str,
}

/// The answer of a cell at `here`, or why there is none. It knows nothing of cells, so that any test can call it.
pub fn compute(input: &[u8], here: WhereItRan) -> Result<IdentifyOutput, &'static str> {
    let asked: IdentifyInput = serde_json::from_slice(input).map_err(|_| "invalid_input")?;
    if asked.provider.is_empty() {
        return Err("missing_provider");
    }
    let fits = |wanted: &str, is: &str| wanted.is_empty() || wanted == is;
    if asked.provider != here.provider || !fits(&asked.cell_id, &here.cell_id) || !fits(&asked.region, &here.region) {
        return Err("another_place");
    }
    Ok(IdentifyOutput { ran_on: here, echo_len: asked.echo.len(), module_version: env!("CARGO_PKG_VERSION") })
}

#[grafos_std::tasklet]
pub fn identify(input: &[u8]) -> Result<Output, Failure> {
    let Context { provider, cell_id, region, .. } = Tasklet::context();
    log!("asked on {provider}");
    Ok(Output::json(compute(input, WhereItRan { provider, cell_id, region })?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use grafos_std::host;

    fn here() -> WhereItRan {
        WhereItRan { provider: "gcp".into(), cell_id: "gcp-1".into(), region: "us-central1".into() }
    }

    #[test]
    fn the_answer_says_where_it_ran() {
        let answer = compute(br#"{"provider":"gcp","cell_id":"gcp-1","region":"us-central1"}"#, here()).unwrap();
        assert_eq!(answer, IdentifyOutput { ran_on: here(), echo_len: 0, module_version: "0.1.0" });
    }

    #[test]
    fn a_provider_alone_is_enough() {
        assert_eq!(compute(br#"{"provider":"gcp"}"#, here()).unwrap().ran_on, here());
    }

    #[test]
    fn the_echo_is_counted_in_bytes() {
        assert_eq!(compute(r#"{"provider":"gcp","echo":"grün"}"#.as_bytes(), here()).unwrap().echo_len, 5);
    }

    #[test]
    fn without_a_provider_there_is_no_answer() {
        assert_eq!(compute(br#"{"provider":""}"#, here()), Err("missing_provider"));
    }

    #[test]
    fn what_is_no_question_is_refused() {
        for text in [r#"{"provider":"#, r#"{"echo":"x"}"#, r#"{"provider":1}"#, ""] {
            assert_eq!(compute(text.as_bytes(), here()), Err("invalid_input"));
        }
    }

    #[test]
    fn nobody_answers_for_another_place() {
        for text in [r#"{"provider":"aws"}"#, r#"{"provider":"gcp","cell_id":"gcp-2"}"#] {
            assert_eq!(compute(text.as_bytes(), here()), Err("another_place"));
        }
        let ran = host::mock_run(identify, br#"{"provider":"aws"}"#);
        assert_eq!((ran.code, ran.text.as_str()), ("program_error", "another_place"));
    }
}
