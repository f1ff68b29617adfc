//! What the attribute's code calls: the three hooks of a tasklet.

use crate::error::Failure;
use crate::host;
use crate::output::Outcome;
use crate::running::Tasklet;

/// What a run answers when its tasklet failed; every number but 0 says that.
const FAILED: i32 = 1;

/// `_grafos_tasklet_init`: keeps the context's handle, and makes a panic tell its reason in the log before it traps.
pub fn init(handle: u32, length: u32) {
    host::keep_context(handle, length);
    #[cfg(target_arch = "wasm32")]
    std::panic::set_hook(Box::new(|panic| {
        host::log_write(panic.to_string().as_bytes());
    }));
}

/// `_grafos_tasklet_run` for a tasklet that takes its whole input.
pub fn run_with_input<R: Outcome>(handle: u32, length: u32, tasklet: fn(&[u8]) -> R) -> i32 {
    run_any(handle, length, tasklet)
}

/// As `run_with_input`, also for what holds values of its own. The attribute names a plain function, so that a wrong
/// one is told in the plainest words.
pub(crate) fn run_any<R: Outcome>(handle: u32, length: u32, tasklet: impl FnOnce(&[u8]) -> R) -> i32 {
    host::keep_input(handle, length);
    match Tasklet::input().to_vec() {
        Ok(input) => finish(tasklet(&input)),
        Err(error) => report(&Failure::from(error)),
    }
}

/// `_grafos_tasklet_run` for a tasklet that takes no input, or reads pieces of it.
pub fn run_without_input<R: Outcome>(handle: u32, length: u32, tasklet: fn() -> R) -> i32 {
    host::keep_input(handle, length);
    finish(tasklet())
}

/// Hands over what there is. When the cell refuses a part of it, the cell also names the end of the run.
fn finish(outcome: impl Outcome) -> i32 {
    match outcome.into_result() {
        Ok(output) => {
            if let Some(response) = output.response() {
                host::response_write(response.as_bytes());
            }
            if !output.as_bytes().is_empty() {
                host::output_write(output.as_bytes());
            }
            0
        }
        Err(failure) => report(&failure),
    }
}

fn report(failure: &Failure) -> i32 {
    host::fail(failure.text().as_bytes());
    FAILED
}
