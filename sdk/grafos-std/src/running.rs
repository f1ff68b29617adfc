//! The tasklet that runs: where it is, what it was given, what it may still use.

use crate::error::{FabricError, Failure};
use crate::host;
use crate::json::Json;

/// The tasklet that runs.
///
/// It has no values; its functions ask the cell.
pub struct Tasklet;

impl Tasklet {
    /// Where it runs. It is read when it is first asked for, and costs a tasklet that never asks no fuel.
    pub fn context() -> Context {
        Context::read().unwrap_or_default()
    }

    /// The input, to be read in pieces.
    pub fn input() -> Input {
        let (handle, length) = host::input_handle();
        Input { handle, length }
    }

    /// The deterministic clock: nanoseconds since the run began, one for each unit of fuel. It tells no time of day.
    pub fn clock_ns() -> u64 {
        host::clock_ns()
    }

    /// Units of fuel that are left.
    pub fn fuel_remaining() -> u64 {
        host::fuel_remaining()
    }
}

/// Where a run runs, as its cell says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Context {
    /// `local`, `aws`, `gcp` or `azure`.
    pub provider: String,
    pub cell_id: String,
    pub region: String,
    pub run_id: String,
    /// The tasklet's name in `grafos.toml`.
    pub tasklet: String,
    /// Of this module, in hex.
    pub module_sha256: String,
    /// What it is an instance of; none in a tasklet that is no service.
    pub service: Option<ServiceInstance>,
}

/// The service that a tasklet is an instance of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceInstance {
    pub name: String,
    /// The port that it is to listen on.
    pub port: u16,
    /// Sessions that may be open at a time.
    pub max_sessions: u32,
    pub instance_id: String,
    /// Of the service's topology when the instance began.
    pub generation: u64,
}

impl ServiceInstance {
    fn from_json(document: &Json) -> Option<ServiceInstance> {
        let text = |name: &str| Some(document.get(name)?.as_str()?.to_owned());
        let number = |name: &str| document.get(name)?.as_u64();
        Some(ServiceInstance {
            name: text("name")?,
            port: number("port")?.try_into().ok()?,
            max_sessions: number("max_sessions")?.try_into().ok()?,
            instance_id: text("instance_id")?,
            generation: number("generation")?,
        })
    }
}

impl Context {
    fn read() -> Result<Context, Failure> {
        let (handle, length) = host::context_handle();
        Context::from_json(&Input { handle, length }.to_vec()?)
    }

    /// The context in these bytes. What it does not know it ignores; what is missing is empty.
    pub fn from_json(data: &[u8]) -> Result<Context, Failure> {
        let document = Json::parse(data)?;
        let text = |name: &str| document.get(name).and_then(Json::as_str).unwrap_or_default().to_owned();
        Ok(Context {
            provider: text("provider"),
            cell_id: text("cell_id"),
            region: text("region"),
            run_id: text("run_id"),
            tasklet: text("tasklet"),
            module_sha256: text("module_sha256"),
            service: document.get("service").and_then(ServiceInstance::from_json),
        })
    }
}

/// A buffer of the cell that is read piece by piece, so that it need not fit into memory.
#[derive(Clone, Copy, Debug)]
pub struct Input {
    pub(crate) handle: u32,
    pub(crate) length: u32,
}

impl Input {
    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.length as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Fills `into` from `offset` on and gives the part that was filled: less than asked at the end.
    pub fn read<'a>(&self, offset: usize, into: &'a mut [u8]) -> Result<&'a [u8], FabricError> {
        let offset = u32::try_from(offset).map_err(|_| FabricError::IoError(-22))?;
        let count = FabricError::check(host::buffer_read(self.handle, offset, into))?;
        Ok(&into[..count])
    }

    /// All of it.
    pub fn to_vec(&self) -> Result<Vec<u8>, FabricError> {
        let mut data = vec![0; self.len()];
        let count = self.read(0, &mut data)?.len();
        data.truncate(count);
        Ok(data)
    }
}
