//! The side that answers.

use grafos_std::mem::Ground;

use crate::arena::{Arena, Message, Place, Status, PAYLOAD_BYTES_MAX};
use crate::error::RpcError;

/// What a server does with a request.
pub trait RpcHandler {
    /// The response to a request; the client gets an error as it is.
    fn handle(&self, method_id: u32, request: &[u8]) -> Result<Vec<u8>, RpcError>;
}

/// Answers the one client that uses the same arena.
#[derive(Debug)]
pub struct RpcServer {
    arena: Arena,
}

impl RpcServer {
    /// A server in this memory; `CapacityExceeded` when it is smaller than an arena.
    pub fn new(ground: impl Into<Ground>) -> Result<RpcServer, RpcError> {
        Ok(RpcServer { arena: Arena::new(ground)? })
    }

    /// Answers the request that is there, and says whether there was one.
    pub fn poll_once(&mut self, handler: &impl RpcHandler) -> Result<bool, RpcError> {
        let take = (Status::RequestReady, Status::Processing);
        if !self.arena.advance(Place::Request, take, &[Status::Processing], || Ok(false))? {
            return Ok(false);
        }
        let Message { request_id, method_id, payload, .. } = self.arena.read(Place::Request)?;
        if !self.arena.is_taken(request_id)? {
            return Ok(false); // given up since it was taken, and perhaps another one is there by now
        }
        let answer = match handler.handle(method_id, &payload) {
            Ok(response) if response.len() > PAYLOAD_BYTES_MAX => Err(RpcError::MessageTooLarge),
            answer => answer,
        };
        let (status, payload) = match answer {
            Ok(response) => (Status::ResponseReady, response),
            Err(error) => (Status::Error, shortened(error.to_string())),
        };
        self.arena.write(Place::Response, &Message { request_id, method_id, status, payload })?;
        let done = (Status::Processing, Status::Empty);
        self.arena.advance(Place::Request, done, &[Status::Empty, Status::RequestReady], || Ok(false))?;
        Ok(true)
    }
}

/// As much of a text as a message takes.
fn shortened(text: String) -> Vec<u8> {
    let mut bytes = text.into_bytes();
    bytes.truncate(PAYLOAD_BYTES_MAX);
    bytes
}
