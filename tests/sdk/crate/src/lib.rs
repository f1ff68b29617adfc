//! Tasklets of several shapes, and what the tests ask of them.

use grafos_std::{fail, log, Failure, Output, Tasklet};

#[grafos_std::tasklet]
pub fn length(input: &[u8]) -> Output {
    log!("read {} bytes", input.len());
    Output::json(input.len()).with_bytes(input)
}

#[grafos_std::tasklet]
pub fn place() -> Output {
    Output::json(Tasklet::context().region)
}

#[grafos_std::tasklet]
pub fn never_empty<'a>(input: &'a [u8]) -> Result<Output, Failure> {
    if input.is_empty() {
        return fail("empty_append");
    }
    Ok(Output::bytes(input))
}
