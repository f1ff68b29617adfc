//! The side that asks.

use grafos_std::mem::Ground;

use crate::arena::{Arena, Message, Place, Status, PAYLOAD_BYTES_MAX};
use crate::error::RpcError;

/// Times that a client looks for its response, unless it says otherwise.
const ATTEMPTS_DEFAULT: u32 = 10_000;

/// Asks the one server that serves the same arena.
#[derive(Debug)]
pub struct RpcClient {
    arena: Arena,
    attempts: u32,
}

impl RpcClient {
    /// A client in this memory; `CapacityExceeded` when it is smaller than an arena.
    pub fn new(ground: impl Into<Ground>) -> Result<RpcClient, RpcError> {
        Ok(RpcClient { arena: Arena::new(ground)?, attempts: ATTEMPTS_DEFAULT })
    }

    /// How often to look for a response before it is `NoAnswer`.
    pub fn attempts(mut self, attempts: u32) -> RpcClient {
        self.attempts = attempts.max(1);
        self
    }

    /// Asks, waits and gives the response.
    pub fn call(&mut self, method_id: u32, request: &[u8]) -> Result<Vec<u8>, RpcError> {
        let request_id = self.send(method_id, request)?;
        for _ in 0..self.attempts {
            if let Some(response) = self.take(request_id)? {
                return Ok(response);
            }
        }
        Err(RpcError::NoAnswer)
    }

    /// Asks, and gives the number by which the response is taken later, also by another run. `Busy` while an earlier
    /// request is not answered; a response that nobody took makes room.
    pub fn send(&mut self, method_id: u32, request: &[u8]) -> Result<u64, RpcError> {
        if request.len() > PAYLOAD_BYTES_MAX {
            return Err(RpcError::MessageTooLarge);
        }
        let before = self.arena.read(Place::Request)?;
        let is_answered = |request_id| Ok(self.arena.read(Place::Response)?.request_id == request_id);
        match before.status {
            Status::RequestReady => return Err(RpcError::Busy),
            // The response is there, and the server about to say that it is done.
            Status::Processing if !is_answered(before.request_id)? => return Err(RpcError::Busy),
            _ => {}
        }
        let request_id = before.request_id + 1;
        let payload = request.to_vec();
        let message = Message { request_id, method_id, status: Status::Empty, payload };
        self.arena.write(Place::Request, &message)?;
        let is_past = || is_answered(request_id);
        let (step, after) = ((Status::Empty, Status::RequestReady), [Status::RequestReady, Status::Processing]);
        if self.arena.advance(Place::Request, step, &after, is_past)? {
            Ok(request_id)
        } else {
            Err(RpcError::Busy) // another client is here, against the rule
        }
    }

    /// The response to that request, if it is there by now.
    pub fn take(&mut self, request_id: u64) -> Result<Option<Vec<u8>>, RpcError> {
        let status = self.arena.status(Place::Response)?;
        if !matches!(status, Status::ResponseReady | Status::Error) {
            return Ok(None);
        }
        let response = self.arena.read(Place::Response)?;
        if response.request_id != request_id {
            return Ok(None);
        }
        match response.status {
            Status::Error => Err(RpcError::from_text(&String::from_utf8_lossy(&response.payload))),
            _ => Ok(Some(response.payload)),
        }
    }

    /// Gives up the request that was sent last, so that the next one can be sent, and says whether it will surely never be
    /// handled: then no server had begun with it. One that had may have done what it was asked; its response is lost.
    pub fn abandon(&mut self) -> Result<bool, RpcError> {
        let request_id = self.arena.read(Place::Request)?.request_id;
        let never = || Ok(false);
        let was_waiting =
            self.arena.advance(Place::Request, (Status::RequestReady, Status::Empty), &[Status::Empty], never)?;
        if was_waiting {
            // When our answer was lost, it may be the server that emptied it: when it was done.
            return Ok(self.arena.read(Place::Response)?.request_id != request_id);
        }
        self.arena.advance(Place::Request, (Status::Processing, Status::Empty), &[Status::Empty], never)?;
        Ok(false)
    }
}
