//! What a lease is called beyond its own run, and how a run takes the leases that it was given.

use std::fmt;
use std::str::FromStr;

use crate::error::FabricError;
use crate::host;
use crate::json::Json;
use crate::wire::{Wire, WireReader, DECODE_FAILED};

/// Bytes of the text of a reference, at most.
pub const LEASE_REF_BYTES_MAX: usize = 512;
/// Leases of one kind that a run can hold.
pub const LEASES_MAX: u32 = 16;

/// The name of a leased region that one tasklet gives to another, in its response or in memory that they share.
///
/// It is one JSON object of at most 512 bytes, made by the cell that holds the region, and holds no secret: whether
/// somebody may use the region is decided by the cell when a run attaches to it. Take it as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRef {
    text: String,
    document: Json,
}

impl LeaseRef {
    /// The reference in this text; `DECODE_FAILED` when it is none.
    pub fn parse(text: &str) -> Result<LeaseRef, FabricError> {
        let document = Json::parse(text.as_bytes()).map_err(|_| DECODE_FAILED)?;
        if text.len() > LEASE_REF_BYTES_MAX || !matches!(document, Json::Object(_)) {
            return Err(DECODE_FAILED);
        }
        Ok(LeaseRef { text: text.to_owned(), document })
    }

    /// The reference in a member of a JSON text, such as another tasklet's response.
    pub fn from_json(value: &Json) -> Result<LeaseRef, FabricError> {
        let mut text = String::new();
        value.write(&mut text);
        LeaseRef::parse(&text)
    }

    /// The text as the cell made it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// A member of the object, to show to people: `lease_id`, `cell_id` and the like.
    pub fn get(&self, name: &str) -> Option<&Json> {
        self.document.get(name)
    }

    /// As JSON.
    pub fn as_json(&self) -> &Json {
        &self.document
    }

    pub(crate) fn of_slot(slot: u32) -> Result<LeaseRef, FabricError> {
        let mut text = [0; LEASE_REF_BYTES_MAX];
        let length = FabricError::check(host::fbmu_ref(slot, &mut text))?;
        LeaseRef::parse(std::str::from_utf8(text.get(..length).ok_or(DECODE_FAILED)?).map_err(|_| DECODE_FAILED)?)
    }
}

impl fmt::Display for LeaseRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for LeaseRef {
    type Err = FabricError;

    fn from_str(text: &str) -> Result<LeaseRef, FabricError> {
        LeaseRef::parse(text)
    }
}

impl Wire for LeaseRef {
    fn encode(&self, out: &mut Vec<u8>) {
        self.text.encode(out);
    }

    fn decode(from: &mut WireReader<'_>) -> Result<LeaseRef, FabricError> {
        LeaseRef::parse(&String::decode(from)?)
    }
}

/// What has become of a lease, as its cell says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseStatus {
    Active,
    /// It ran out; the next run can be given another.
    Expired,
    /// It was taken back, and so is everything of which nothing better is known.
    Revoked,
}

impl LeaseStatus {
    /// Of the answer that a question for the lease's size got. An error that says nothing of the lease is one here.
    pub(crate) fn of<T>(answer: Result<T, FabricError>) -> Result<LeaseStatus, FabricError> {
        match answer {
            Ok(_) => Ok(LeaseStatus::Active),
            Err(FabricError::LeaseExpired) => Ok(LeaseStatus::Expired),
            Err(FabricError::Revoked | FabricError::Fenced) => Ok(LeaseStatus::Revoked),
            Err(other) => Err(other),
        }
    }
}

/// The kinds of leases that a run reaches by slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Memory = 0,
    Blocks = 1,
    Cpu = 2,
}

/// A slot that is taken until this is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    kind: Kind,
    pub(crate) slot: u32,
}

impl Claim {
    /// The slot, unless it is taken.
    pub(crate) fn of(kind: Kind, slot: u32) -> Option<Claim> {
        host::claim(kind, slot).then(|| Claim { kind, slot }) // made only then, since its end gives the slot back
    }

    /// The first slot that nobody took and that is as large as it must be. When none is: the error of the first that
    /// nobody took and that could not be asked, else `CapacityExceeded`.
    pub(crate) fn of_next(
        kind: Kind,
        smallest: u64,
        size_of: impl Fn(u32) -> Result<u64, FabricError>,
    ) -> Result<Claim, FabricError> {
        let mut refusal = FabricError::CapacityExceeded;
        for slot in 0..LEASES_MAX {
            let size = size_of(slot);
            if size == Err(FabricError::Unsupported) {
                break; // the run has no lease in this slot, nor in a later one
            }
            let Some(claim) = Claim::of(kind, slot) else { continue };
            match size {
                Ok(size) if size >= smallest => return Ok(claim),
                Err(error) if refusal == FabricError::CapacityExceeded => refusal = error,
                _ => {}
            }
        }
        Err(refusal)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        host::release(self.kind, self.slot);
    }
}
