//! Tasklets of every shape that the attribute takes, for the tests beside them and for modules that a cell runs.

use grafos_std::block::FabricBlock;
use grafos_std::mem::FabricMem;
use grafos_std::{fail, log, FabricError, Failure, Json, Output, Tasklet};

mod shared;

pub use shared::*;

/// The whole input comes in, and goes out again.
#[grafos_std::tasklet]
pub fn echo(input: &[u8]) -> Output {
    log!("read {} bytes", input.len());
    Output::json(input.len()).with_bytes(input)
}

/// No input is copied.
#[grafos_std::tasklet]
pub fn place() -> Output {
    let context = Tasklet::context();
    let member = |name: &str, value: &str| (name.to_owned(), Json::Text(value.to_owned()));
    Output::json(Json::Object(vec![
        member("provider", &context.provider),
        member("cell_id", &context.cell_id),
        member("region", &context.region),
        member("run_id", &context.run_id),
        member("tasklet", &context.tasklet),
        member("module_sha256", &context.module_sha256),
    ]))
}

/// Pieces of the input are read, however large it is.
#[grafos_std::tasklet]
pub fn last_byte() -> Result<Output, FabricError> {
    let input = Tasklet::input();
    let mut byte = [0];
    let read = input.read(input.len().saturating_sub(1), &mut byte)?;
    Ok(Output::bytes(read))
}

/// A failure of the program's own.
#[grafos_std::tasklet]
pub fn never_empty<'a>(input: &'a [u8]) -> Result<Output, Failure> {
    if input.is_empty() {
        return fail("empty_append");
    }
    Ok(Output::json_text(String::from_utf8(input.to_vec())?))
}

/// An error that is a text.
#[grafos_std::tasklet]
pub fn refused(_: &[u8]) -> Result<Output, &'static str> {
    Err("missing_provider")
}

#[grafos_std::tasklet]
pub fn panics() -> Output {
    let items: Vec<u8> = Tasklet::input().to_vec().unwrap_or_default();
    Output::json(items[1_000])
}

/// More memory than any cell gives.
#[grafos_std::tasklet]
pub fn hungry() -> Output {
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    loop {
        blocks.push(vec![1; 4 << 20]);
        log!("{} blocks", blocks.len());
    }
}

/// The clock goes forward and fuel goes down.
#[grafos_std::tasklet]
pub fn times() -> Output {
    let (clock, fuel) = (Tasklet::clock_ns(), Tasklet::fuel_remaining());
    let (later, less) = (Tasklet::clock_ns(), Tasklet::fuel_remaining());
    Output::json(Json::List(vec![Json::Bool(later > clock), Json::Bool(less < fuel)]))
}

/// Leased memory keeps what was written, and nothing beyond its end.
#[grafos_std::tasklet]
pub fn leased(input: &[u8]) -> Result<Output, FabricError> {
    let memory = FabricMem::hello()?;
    memory.write(16, input)?;
    let beyond = memory.write(memory.arena_size() - 1, b"two");
    let shown = format!("{} {beyond:?}", memory.arena_size());
    Ok(Output::bytes(memory.read(15, input.len() + 2)?).with_json(Json::Text(shown)))
}

#[grafos_std::tasklet]
pub fn blocks() -> Result<Output, FabricError> {
    let blocks = FabricBlock::hello()?;
    let mut block = blocks.read_block(0)?;
    block[0] += 1;
    blocks.write_block(0, &block)?;
    Ok(Output::bytes(blocks.read_block(0)?))
}

/// A response that is no JSON.
#[grafos_std::tasklet]
pub fn no_json() -> Output {
    Output::json_text("{")
}

/// A name that Rust has a use of its own for.
#[grafos_std::tasklet]
pub fn r#match() -> Output {
    Output::empty()
}

/// A tasklet that a macro writes.
macro_rules! tasklet_with_input {
    ($name:ident, $input:ty) => {
        #[grafos_std::tasklet]
        pub fn $name(_input: $input) -> Output {
            Output::empty()
        }
    };
}

tasklet_with_input!(written, &[u8]);
