//! Answers requests until it is told to stop.

use std::cell::Cell;

use grafos_rpc::{RpcError, RpcHandler, RpcServer};
use grafos_std::{Failure, Output, ToJson};

use crate::arena::{open, ECHO, PING, REVERSE, STOP};

/// What the methods do.
#[derive(Default)]
pub struct Methods {
    is_over: Cell<bool>,
}

impl RpcHandler for Methods {
    fn handle(&self, method_id: u32, request: &[u8]) -> Result<Vec<u8>, RpcError> {
        match method_id {
            PING => Ok(b"pong".to_vec()),
            ECHO => Ok(request.to_vec()),
            REVERSE => Ok(request.iter().rev().copied().collect()),
            STOP => {
                self.is_over.set(true);
                Ok(b"bye".to_vec())
            }
            _ => Err(RpcError::MethodNotSupported),
        }
    }
}

#[derive(ToJson)]
struct Served {
    requests: u64,
}

/// A tasklet cannot sleep, so it asks again and again, for some hundred units of fuel each time. The run's fuel and its
/// deadline bound that.
#[grafos_std::tasklet]
pub fn server(input: &[u8]) -> Result<Output, Failure> {
    let mut server = RpcServer::new(open(input)?)?;
    let methods = Methods::default();
    let mut requests = 0;
    while !methods.is_over.get() {
        requests += u64::from(server.poll_once(&methods)?);
    }
    Ok(Output::json(Served { requests }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_method_has_its_answer() {
        let methods = Methods::default();
        assert_eq!(methods.handle(PING, b"anything"), Ok(b"pong".to_vec()));
        assert_eq!(methods.handle(ECHO, b"abc"), Ok(b"abc".to_vec()));
        assert_eq!(methods.handle(REVERSE, b"abc"), Ok(b"cba".to_vec()));
        assert_eq!(methods.handle(9, b""), Err(RpcError::MethodNotSupported));
        assert!(!methods.is_over.get());
        assert_eq!(methods.handle(STOP, b""), Ok(b"bye".to_vec()));
        assert!(methods.is_over.get());
    }
}
