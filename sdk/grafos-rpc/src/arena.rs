//! Where request and response lie in the memory that both sides share.

use grafos_std::mem::{FabricMem, Ground};
use grafos_std::wire::DECODE_FAILED;
use grafos_std::FabricError;

/// Bytes of memory that a pair of client and server needs.
pub const ARENA_BYTES: u64 = 64 * 1024;
/// Bytes of a request or a response, at most.
pub const PAYLOAD_BYTES_MAX: usize = 1024;

/// Times that a step is asked for.
const ATTEMPTS: u32 = 64;
/// Method, status and the lower bytes of the length: the word by whose change a message changes hands.
const WORD_AT: u64 = 8;
const STATUS_SHIFT: u32 = 32;
const HEADER_BYTES: usize = 17;

/// Where a message lies.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    Request = 0,
    Response = 32_768,
}

/// How far a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    Empty = 0,
    RequestReady = 1,
    Processing = 2,
    ResponseReady = 3,
    Error = 4,
}

/// Request id, method, status and length, a number each, and the payload.
#[derive(Debug)]
pub struct Message {
    pub request_id: u64,
    pub method_id: u32,
    pub status: Status,
    pub payload: Vec<u8>,
}

/// The memory that both sides share.
#[derive(Debug)]
pub struct Arena {
    _ground: Ground,
    mem: FabricMem,
}

impl Arena {
    pub fn new(ground: impl Into<Ground>) -> Result<Arena, FabricError> {
        let ground = ground.into();
        let mem = ground.mem().window(0, ARENA_BYTES)?.persistent(ATTEMPTS);
        Ok(Arena { _ground: ground, mem })
    }

    pub fn status(&self, place: Place) -> Result<Status, FabricError> {
        status_in(self.mem.read_u64(place as u64 + WORD_AT)?)
    }

    /// Moves a message on, in one step and once; whether it was this call that moved it.
    ///
    /// When the answer is lost, the message tells: it was moved if it is now in one of the states `after`, into which
    /// nobody else moves it from there. When it is where it was, `is_past` says whether it has come round.
    pub fn advance(
        &self,
        place: Place,
        (from, to): (Status, Status),
        after: &[Status],
        is_past: impl Fn() -> Result<bool, FabricError>,
    ) -> Result<bool, FabricError> {
        let mut is_lost = false;
        for _ in 0..ATTEMPTS {
            let word = self.mem.read_u64(place as u64 + WORD_AT)?;
            let now = status_in(word)?;
            if now != from {
                return Ok(is_lost && after.contains(&now));
            }
            if is_lost && is_past()? {
                return Ok(true);
            }
            let new = word & !(0xff << STATUS_SHIFT) | (to as u64) << STATUS_SHIFT;
            match self.mem.compare_exchange(place as u64 + WORD_AT, word, new) {
                Ok(found) if found == word => return Ok(true),
                Ok(_) => {}
                Err(FabricError::Disconnected) => is_lost = true,
                Err(error) => return Err(error),
            }
        }
        Err(FabricError::Disconnected)
    }

    /// Writes a message whole. It may be written twice, so the other side must not move it meanwhile.
    pub fn write(&self, place: Place, message: &Message) -> Result<(), FabricError> {
        let mut bytes = message.request_id.to_le_bytes().to_vec();
        bytes.extend(message.method_id.to_le_bytes());
        bytes.push(message.status as u8);
        bytes.extend((message.payload.len() as u32).to_le_bytes());
        bytes.extend(&message.payload);
        self.mem.write(place as u64, &bytes)
    }

    /// Whether the request of that number is the one that the server has taken.
    pub fn is_taken(&self, request_id: u64) -> Result<bool, FabricError> {
        let head = self.mem.read(Place::Request as u64, HEADER_BYTES)?;
        Ok(head[..8] == request_id.to_le_bytes() && head[12] == Status::Processing as u8)
    }

    pub fn read(&self, place: Place) -> Result<Message, FabricError> {
        let head = self.mem.read(place as u64, HEADER_BYTES)?;
        let status = status_in(u64::from(head[12]) << STATUS_SHIFT)?;
        let number = |from: usize| u32::from_le_bytes(head[from..from + 4].try_into().unwrap());
        let length = number(13) as usize;
        if length > PAYLOAD_BYTES_MAX {
            return Err(DECODE_FAILED);
        }
        let payload = self.mem.read(place as u64 + HEADER_BYTES as u64, length)?;
        let request_id = u64::from(number(0)) | u64::from(number(4)) << 32;
        Ok(Message { request_id, method_id: number(8), status, payload })
    }
}

fn status_in(word: u64) -> Result<Status, FabricError> {
    [Status::Empty, Status::RequestReady, Status::Processing, Status::ResponseReady, Status::Error]
        .into_iter()
        .find(|status| *status as u64 == word >> STATUS_SHIFT & 0xff)
        .ok_or(DECODE_FAILED)
}
