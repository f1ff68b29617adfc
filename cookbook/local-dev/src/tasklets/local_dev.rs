//! Says that it ran, and how much it was given.

use grafos_std::{Output, ToJson};

#[derive(Debug, PartialEq, Eq, ToJson)]
pub struct LocalDevOutput {
    pub ran_in: &'static str,
    pub input_bytes: usize,
}

/// What the tasklet does, without a cell around it.
pub fn compute(input: &[u8]) -> LocalDevOutput {
    LocalDevOutput { ran_in: "local-dev", input_bytes: input.len() }
}

#[grafos_std::tasklet]
pub fn local_dev(input: &[u8]) -> Output {
    Output::json(compute(input))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_of_the_input_is_counted() {
        assert_eq!(compute(b"12345"), LocalDevOutput { ran_in: "local-dev", input_bytes: 5 });
        assert_eq!(compute(b"").input_bytes, 0);
    }

    #[test]
    fn the_response_has_both_fields() {
        let ran = grafos_std::host::mock_run(local_dev, b"12");
        assert_eq!(ran.response.as_deref(), Some(r#"{"ran_in":"local-dev","input_bytes":2}"#));
    }
}
