//! The processor that a run holds, and tasklets that it starts.
//!
//! ```
//! use grafos_std::cpu::CpuBuilder;
//! use grafos_std::{host, Failure, Output};
//!
//! fn length(input: &[u8]) -> Output {
//!     Output::json(input.len())
//! }
//!
//! fn start(module: &[u8]) -> Result<Output, Failure> {
//!     let lease = CpuBuilder::new().cores(1).lease_secs(300).acquire()?;
//!     let ended = lease.cpu().submit(module).fuel(1_000_000).input(b"abc").launch()?;
//!     Ok(Output::json_text(ended.response.unwrap_or_default()))
//! }
//!
//! host::mock_provide(b"the module", length);
//! assert_eq!(host::mock_run(start, b"the module").response.as_deref(), Some("3"));
//! ```
//!
//! A run has one core, its own, from its beginning on, and no call of a cell starts a tasklet from within another: there
//! `launch` answers `Unsupported`. Tasklets that need each other are a graph in `grafos.toml`. On your machine the mock
//! starts what `host::mock_provide` named, so that code which falls back, or which is meant for a host of its own, can be
//! tried.

use crate::error::FabricError;
use crate::host;
use crate::lease::{Claim, Kind};

/// Units of fuel of a tasklet that is not given another number.
const FUEL_DEFAULT: u64 = 500_000;

/// Takes the run's core.
#[derive(Clone, Debug)]
pub struct CpuBuilder {
    cores: u32,
}

impl Default for CpuBuilder {
    fn default() -> CpuBuilder {
        CpuBuilder { cores: 1 }
    }
}

impl CpuBuilder {
    pub fn new() -> CpuBuilder {
        CpuBuilder::default()
    }

    /// The cores that are wanted.
    pub fn cores(mut self, cores: u32) -> CpuBuilder {
        self.cores = cores;
        self
    }

    /// How long the lease is wanted, in seconds; decided where the run was admitted, so this changes nothing.
    pub fn lease_secs(self, _seconds: u64) -> CpuBuilder {
        self
    }

    /// The run's core; `CapacityExceeded` for more than one, and when it is taken.
    pub fn acquire(self) -> Result<CpuLease, FabricError> {
        let claim = Claim::of(Kind::Cpu, 0).filter(|_| self.cores <= 1).ok_or(FabricError::CapacityExceeded)?;
        Ok(CpuLease { _claim: claim })
    }
}

/// The run's core, taken until this is dropped.
#[derive(Debug)]
pub struct CpuLease {
    _claim: Claim,
}

impl CpuLease {
    /// The processor.
    pub fn cpu(&self) -> FabricCpu {
        FabricCpu
    }
}

/// A processor that runs tasklets.
#[derive(Clone, Copy, Debug)]
pub struct FabricCpu;

impl FabricCpu {
    /// A tasklet to be started, by its module.
    pub fn submit<'a>(&self, module: &'a [u8]) -> TaskletBuilder<'a> {
        TaskletBuilder { module, fuel: FUEL_DEFAULT, input: b"" }
    }
}

/// A tasklet that is about to be started.
#[derive(Clone, Debug)]
pub struct TaskletBuilder<'a> {
    module: &'a [u8],
    fuel: u64,
    input: &'a [u8],
}

impl<'a> TaskletBuilder<'a> {
    /// Units of fuel that it may use.
    pub fn fuel(mut self, units: u64) -> TaskletBuilder<'a> {
        self.fuel = units;
        self
    }

    /// What it is given.
    pub fn input(mut self, input: &'a [u8]) -> TaskletBuilder<'a> {
        self.input = input;
        self
    }

    /// Runs it to its end. `Unsupported` in a cell, and for a module that nobody provided.
    pub fn launch(self) -> Result<Ended, FabricError> {
        host::launch(self.module, self.fuel, self.input)
    }
}

/// How a run ended and what it left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// `finished`, `program_error`, `response_invalid` or `output_too_large`, as a cell names it.
    pub code: &'static str,
    /// The text of a program error.
    pub text: String,
    pub response: Option<String>,
    pub output: Vec<u8>,
    pub log: Vec<String>,
}
