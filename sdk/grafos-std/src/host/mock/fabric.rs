//! A fabric in one process: leased regions that several mock tasklets share, and what goes wrong with them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::faults::{Fault, MockFaults};
use super::services::Services;
use super::turns::Turns;
use super::{INVALID, LEASE_EXPIRED, UNSUPPORTED};
use crate::block::BLOCK_BYTES;
use crate::json::Json;
use crate::lease::{Kind, LEASE_REF_BYTES_MAX};

/// A fabric whose regions outlive the tasklets that use them. A clone is the same fabric.
#[derive(Clone)]
pub struct MockFabric {
    shared: Arc<Shared>,
}

struct Shared {
    /// Of all fabrics in this process, so that a reference of another one is known as such.
    number: u64,
    state: Mutex<State>,
    changed: Condvar,
}

/// A lease of a mock fabric; given to tasklets by slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MockLease {
    pub(super) kind: Kind,
    pub(super) region: usize,
    pub(super) generation: u64,
}

#[derive(Default)]
pub(super) struct State {
    now_s: u64,
    regions: Vec<Region>,
    pub(super) faults: MockFaults,
    pub(super) turns: Option<Turns>,
    pub(super) services: Services,
    pub(super) modules: HashMap<Vec<u8>, super::Provided>,
    /// Tasklets that have begun, so that each has faults of its own.
    begun: u64,
}

struct Region {
    kind: Kind,
    data: Vec<u8>,
    generation: u64,
    expires_at_s: Option<u64>,
    status: i32,
}

impl Default for MockFabric {
    fn default() -> MockFabric {
        MockFabric::new()
    }
}

impl MockFabric {
    /// A fabric without leases, at second 0.
    pub fn new() -> MockFabric {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let shared = Shared { number: NEXT.fetch_add(1, Relaxed), state: Mutex::default(), changed: Condvar::new() };
        MockFabric { shared: Arc::new(shared) }
    }

    /// A memory lease of so many bytes, all zero, that does not end by itself.
    pub fn lease_memory(&self, bytes: u64) -> MockLease {
        self.lease(Kind::Memory, bytes as usize)
    }

    /// A block lease of so many blocks, all zero, that does not end by itself.
    pub fn lease_blocks(&self, blocks: u64) -> MockLease {
        self.lease(Kind::Blocks, blocks as usize * BLOCK_BYTES)
    }

    fn lease(&self, kind: Kind, bytes: usize) -> MockLease {
        let mut state = self.state();
        state.regions.push(Region { kind, data: vec![0; bytes], generation: 1, expires_at_s: None, status: 0 });
        MockLease { kind, region: state.regions.len() - 1, generation: 1 }
    }

    /// Lets the lease end in so many seconds of the fabric's clock, also one that was to end sooner.
    pub fn renew(&self, lease: MockLease, ttl_s: u64) {
        let mut state = self.state();
        state.regions[lease.region].expires_at_s = Some(state.now_s + ttl_s);
    }

    /// Lets time pass.
    pub fn advance_s(&self, seconds: u64) {
        self.state().now_s += seconds;
    }

    /// The time, in seconds since whatever the test counts from; it starts at 0.
    pub fn set_time_s(&self, now_s: u64) {
        self.state().now_s = now_s;
    }

    /// What all calls on the region answer from now on: a status as -6 for a lease that was revoked, -3 for one that is
    /// fenced, -1 for a cell that is away; 0 for a region that is well.
    pub fn set_status(&self, lease: MockLease, status: i32) {
        self.state().regions[lease.region].status = status;
    }

    /// Ends the lease and gives its place, zeroed, to a new one. Who still holds the old one is told that it ran out.
    pub fn lease_again(&self, lease: MockLease) -> MockLease {
        let mut state = self.state();
        let region = &mut state.regions[lease.region];
        region.data.fill(0);
        region.generation += 1;
        (region.expires_at_s, region.status) = (None, 0);
        MockLease { generation: region.generation, ..lease }
    }

    /// From now on calls on regions fail as this says.
    pub fn set_faults(&self, faults: MockFaults) {
        self.state().faults = faults;
    }

    /// The text by which tasklets attach to a memory lease: a lease reference, for their input.
    pub fn reference(&self, lease: MockLease) -> String {
        let (fabric, MockLease { region, generation, .. }) = (self.name(), lease);
        format!(
            r#"{{"fabric":"{fabric}","cell":"local-mock","lease_id":"lease-mock-{region}","generation":{generation}}}"#
        )
    }

    /// The bytes of the region, as a person with a debugger would see them.
    pub fn bytes_of(&self, lease: MockLease) -> Vec<u8> {
        self.state().regions[lease.region].data.clone()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn changed(&self) -> &Condvar {
        &self.shared.changed
    }

    pub(super) fn is(&self, other: &MockFabric) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// The number of a tasklet that begins.
    pub(super) fn begin(&self) -> u64 {
        let mut state = self.state();
        state.begun += 1;
        state.begun
    }

    // --- the calls on regions, as the cell that holds them carries them out ---------------------------------------

    /// Bytes of the region, or the status of its lease.
    pub(super) fn size(&self, lease: MockLease) -> Result<usize, i32> {
        self.state().alive(lease).map(|region| region.data.len())
    }

    /// Carries a call out, in one step, unless a fault prevents it or its answer gets lost.
    pub(super) fn carry_out<T>(
        &self,
        lease: MockLease,
        fault: Option<Fault>,
        effect: impl FnOnce(&mut [u8]) -> Result<T, i32>,
    ) -> Result<T, i32> {
        let mut state = self.state();
        if fault == Some(Fault::Refused) {
            return Err(super::DISCONNECTED);
        }
        let done = effect(&mut state.alive(lease)?.data)?;
        if fault == Some(Fault::AnswerLost) {
            return Err(super::DISCONNECTED);
        }
        Ok(done)
    }

    /// The lease that a text names: -5 for one of another fabric, -22 for what is none, and what has ended says so.
    pub(super) fn find(&self, reference: &[u8]) -> Result<MockLease, i32> {
        let document = Json::parse(reference).map_err(|_| INVALID)?;
        let text = |name: &str| document.get(name).and_then(Json::as_str).ok_or(INVALID);
        let generation = document.get("generation").and_then(Json::as_u64).ok_or(INVALID)?;
        let region =
            text("lease_id")?.strip_prefix("lease-mock-").and_then(|number| number.parse().ok()).ok_or(INVALID)?;
        if text("fabric")? != self.name() {
            return Err(UNSUPPORTED);
        }
        let lease = MockLease { kind: Kind::Memory, region, generation };
        let mut state = self.state();
        if !state.regions.get(region).is_some_and(|one| one.kind == Kind::Memory)
            || reference.len() > LEASE_REF_BYTES_MAX
        {
            return Err(INVALID);
        }
        state.alive(lease).map(|_| lease)
    }

    fn name(&self) -> String {
        format!("mock-{}", self.shared.number)
    }
}

impl State {
    /// The region, while the lease is the one that it is leased by.
    fn alive(&mut self, lease: MockLease) -> Result<&mut Region, i32> {
        let now_s = self.now_s;
        let region = &mut self.regions[lease.region];
        match region.status {
            0 if region.generation != lease.generation => Err(LEASE_EXPIRED),
            0 if region.expires_at_s.is_some_and(|end_s| end_s <= now_s) => Err(LEASE_EXPIRED),
            0 => Ok(region),
            status => Err(status),
        }
    }
}
